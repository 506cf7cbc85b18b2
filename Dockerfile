# The image of frontstream: one binary, every role, no shell in its start. Build and try:
#   docker build -t frontstream:0.1.0 .
#   docker run --rm frontstream:0.1.0 --help

# ---- build ---------------------------------------------------------------------------------------------------
# The tag names the compiler of rust-toolchain.toml (scripts/validate-deploy compares them) and the Debian release
# of the runtime stage, so that the libraries linked here are the ones found there.
FROM rust:1.95.0-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# cmake, g++ and make build librdkafka; pkg-config finds OpenSSL and zlib. Versions are not pinned: Debian keeps
# only the newest of a stable release, and a pinned one would stop building with the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ libssl-dev make pkg-config zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*

# The image's own toolchain, whatever rust-toolchain.toml asks for beside it (clippy and rustfmt are not needed).
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
WORKDIR /src

# A layer with the dependencies alone, built from the manifest and empty targets: it is rebuilt when Cargo.toml or
# Cargo.lock changes, and an edit in src/ costs only the last step. Declared benches need a file to exist.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && sed -n '/^\[\[bench\]\]/,/^name/s/^name *= *"\(.*\)"/\1/p' Cargo.toml \
  | while read -r bench; do echo 'fn main() {}' > "benches/$bench.rs"; done \
 && cargo build --release --locked --no-default-features --features tls

# Features are named one by one, so that the in-process broker of `dev` cannot get in by becoming a default.
# The touch is for cargo, which compares times: the files copied may be older than the empty ones built above.
COPY . .
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --no-default-features --features tls \
 && install -D -m 0755 target/release/frontstream /out/frontstream

# ---- run -----------------------------------------------------------------------------------------------------
# bookworm-slim and not distroless: librdkafka and reqwest link OpenSSL 3 and zlib dynamically, distroless `cc` has
# neither, and its `base` would bring OpenSSL but no zlib and no way to add it. bash (part of every Debian) is what the
# health check of docker-compose.yml uses. The tag names the release and no point of it: a rebuild takes the security
# fixes. For a build that can be repeated to the byte, pin both FROM lines by digest where you build.
FROM debian:bookworm-slim AS runtime

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/*

# Owned by root and not writable by the user that runs it.
COPY --from=build /out/frontstream /usr/local/bin/frontstream

# A number, so that Kubernetes can prove runAsNonRoot without reading /etc/passwd. Nothing is ever written to disk.
USER 65532:65532
WORKDIR /

# A library missing from this stage fails the build here, not the first start.
RUN ["/usr/local/bin/frontstream", "--help"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="frontstream" \
      org.opencontainers.image.description="Turns Front's webhooks into a reliable Kafka stream of prioritised conversation refreshes" \
      org.opencontainers.image.source="https://github.com/frontstream/frontstream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# 8080: webhooks (receiver). 9600: /healthz, /readyz, /metrics (every role).
EXPOSE 8080 9600

# SIGTERM starts the drain: not ready, no more intake, finish or abort, leave the group, exit.
STOPSIGNAL SIGTERM

# Exec form: frontstream is process 1 and gets the signal itself. No HEALTHCHECK here: what to ask depends on the
# role, and one-shot commands have nothing to ask; docker-compose.yml and k8s/ say it for each.
ENTRYPOINT ["/usr/local/bin/frontstream"]
CMD ["--help"]
