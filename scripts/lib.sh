# shellcheck shell=bash
# What the scripts share: messages, versions, the cache folder, locks, ports, processes, downloads through Maven.
# Sourced, never run. It changes nothing by being read.

if ((BASH_VERSINFO[0] < 4)); then
  echo "error: these scripts need bash 4 or later, this is $BASH_VERSION; scripts/setup says how to get it" >&2
  exit 1
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
scripts=$root/scripts
# shellcheck source=scripts/versions
source "$scripts/versions"

cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/frontstream
dev_dir=${FRONTSTREAM_DEV_DIR:-$root/.dev}
[[ $dev_dir == /* ]] || dev_dir=$PWD/$dev_dir

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
usage_error() {
  printf 'error: %s\n' "$1" >&2
  printf 'try: %s --help\n' "${0##*/}" >&2
  exit 2
}
have() { command -v "$1" >/dev/null 2>&1; }
# rustup's own place, for a shell that was opened before it was installed.
have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# The comment block at the top of the script that was called is its help text.
print_help() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

json_string() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$text"
}

# --- locks ---------------------------------------------------------------------------------------------------------

# Holds the lock named $1 on file descriptor 9 until the script ends. Lock files are never removed: removing one that
# somebody waits for would let two holders in.
lock() {
  mkdir -p "$cache/locks"
  exec 9>>"$cache/locks/$1.lock"
  take_lock 9 "${2:-300}" || die "another start or stop has held $cache/locks/$1.lock for ${2:-300} s"
}

# Waits for the lock on open file $1 for $2 seconds. macOS has no flock command; the lock belongs to the open file, so any
# process that has inherited it can take it.
take_lock() {
  if have flock; then
    flock -w "$2" "$1"
  else
    python3 -c 'import fcntl, signal, sys; signal.alarm(int(sys.argv[2])); fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)' "$1" "$2"
  fi
}

# A short file name for a path.
path_key() { printf '%s' "$1" | cksum | tr ' ' '-'; }

# --- ports ---------------------------------------------------------------------------------------------------------

# Does something listen on port $1 of the loopback address?
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Who listens on port $1, as far as this user may see it: " by java (pid 42)", or nothing.
port_owner() {
  local line
  if have ss; then
    line=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n 1) || return 0
    if [[ $line =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]]; then
      printf ' by %s (pid %s)' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    fi
  elif have lsof; then
    line=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print " by " $1 " (pid " $2 ")" }') || return 0
    printf '%s' "$line"
  fi
}

# Prints $1 free ports. A port handed out is not handed out again for two minutes, so that two starts at the same time
# get different ones before either of them listens. Below the range the kernel takes outgoing ports from.
free_ports() (
  wanted=$1 now=$(date +%s) taken='' found=()
  mkdir -p "$cache/locks"
  exec 8>>"$cache/locks/ports.lock"
  take_lock 8 60 || die "another script has held $cache/locks/ports.lock for 60 s"
  claims=$cache/locks/ports.claims
  if [[ -f $claims ]]; then
    taken=$(awk -v now="$now" '$2 > now - 120' "$claims")
  fi
  for ((tries = 0; tries < 1000 && ${#found[@]} < wanted; tries++)); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if [[ $'\n'$taken == *$'\n'"$port "* ]] || port_open "$port"; then
      continue
    fi
    found+=("$port")
    taken+=$'\n'"$port $now"
  done
  ((${#found[@]} == wanted)) || die "no free port found between 20000 and 31999"
  printf '%s\n' "$taken" | sed '/^$/d' >"$claims"
  printf '%s\n' "${found[@]}"
)

check_port_number() {
  if [[ ! $1 =~ ^[0-9]{1,5}$ ]] || ((10#$1 > 65535)); then usage_error "not a port: $1"; fi
}

# --- processes -----------------------------------------------------------------------------------------------------

# Is process $1 alive and started by us with the marker $2 among its arguments? A pid file that outlived its process may
# name a stranger; a zombie counts as gone.
is_ours() {
  local state args
  [[ $1 =~ ^[0-9]+$ ]] || return 1
  state=$(ps -o state= -p "$1" 2>/dev/null) || return 1
  [[ $state != Z* ]] || return 1
  args=$(ps -ww -o args= -p "$1" 2>/dev/null) || return 1
  [[ " $args " == *" $2 "* ]]
}

# The pid in file $1 if that process is ours (marker $2), else nothing and status 1.
our_pid() {
  local pid
  [[ -f $1 ]] || return 1
  pid=$(<"$1") || return 1
  is_ours "$pid" "$2" || return 1
  printf '%s' "$pid"
}

# Is process $1 on its way out? It has given its memory back, and with it its arguments, which ps then shows as [name]; its
# files and ports it may still hold.
is_exiting() {
  local line
  line=$(ps -ww -o state=,args= -p "$1" 2>/dev/null) || return 1
  [[ $line != Z* && $line == ?*" ["*"]" ]]
}

# Waits until process $1 with marker $2 is gone, at most $3 seconds.
wait_gone() {
  local deadline=$((SECONDS + $3))
  while is_ours "$1" "$2" || is_exiting "$1"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Starts a command in its own session, without a terminal, detached from every open file of ours, and puts its pid into
# $detached_pid. Usage: start_detached DIR CONSOLE_LOG COMMAND ARGS…
start_detached() {
  local dir=$1 console=$2 fd
  shift 2
  (
    cd "$dir" || exit
    for fd in {3..19}; do eval "exec $fd>&-"; done
    ! have setsid || exec setsid "$@"
    # macOS has no setsid command.
    exec python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
  ) </dev/null >>"$console" 2>&1 &
  detached_pid=$!
  disown "$detached_pid" 2>/dev/null || true
}

# Asks process $1 (marker $2, pid file $3, called $4 in messages) to end with signal $5 and waits $6 seconds before it is
# killed. A frozen process would not see the signal, so it is woken up.
stop_process() {
  kill -"$5" "$1" 2>/dev/null || true
  kill -CONT "$1" 2>/dev/null || true
  if ! wait_gone "$1" "$2" "$6"; then
    note "$4 (pid $1) did not stop within $6 s: killing it"
    kill -KILL "$1" 2>/dev/null || true
    wait_gone "$1" "$2" 10 || die "$4 (pid $1) cannot be killed"
  fi
  rm -f "$3"
}

# The last lines of the log files $@, as far as there are any, on standard error.
show_log_tail() {
  local log
  for log in "$@"; do
    [[ ! -s $log ]] || tail -n 15 "$log" | sed 's/^/  /' >&2
  done
}

# --- Python --------------------------------------------------------------------------------------------------------

# Puts a python3 that is new enough, with venv, into $python; status 1 if there is none.
find_python() {
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    have "$python" || continue
    "$python" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (${PYTHON_MINIMUM/./, }))" 2>/dev/null && return 0
  done
  return 1
}

# --- Java and Maven ------------------------------------------------------------------------------------------------

# Puts the java to use into $java, or says what is missing.
find_java() {
  local major
  java=${JAVA_HOME:+$JAVA_HOME/bin/java}
  [[ -n $java && -x $java ]] || java=$(command -v java) || die "no Java: run scripts/setup"
  major=$("$java" -version 2>&1 | sed -n 's/^.*version "\([0-9]*\).*$/\1/p' | head -n 1)
  ((${major:-0} >= JAVA_MAJOR)) || die "$java is Java ${major:-unknown}, $JAVA_MAJOR or later is needed: run scripts/setup"
}

# Copies what the pom.xml in folder $1 depends on into its folder libs; the rest are Maven options. Three tries, checksums
# enforced, quiet unless all of them failed. -U, because Maven remembers a failed download for a day.
maven_copy() {
  local dir=$1 try
  shift
  have mvn || die "no Maven: run scripts/setup"
  for try in 1 2 3; do
    if (cd "$dir" && mvn -B -q -C -U -Dstyle.color=never "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN_VERSION:copy-dependencies" \
      -DoutputDirectory="$dir/libs" "$@") >"$dir/maven.log" 2>&1 </dev/null; then
      return 0
    fi
    ((try == 3)) || sleep "$try"
  done
  tail -n 20 "$dir/maven.log" >&2
  return 1
}

# Makes the folder $1 in the cache by calling $2 with an empty folder to fill. Complete or absent: it appears under its
# name by one rename, whatever happens, and of two callers at once only the first one works.
in_cache() (
  target=$cache/$1 fill=$2
  [[ ! -d $target ]] || return 0
  lock "fetch-$1" 900
  [[ ! -d $target ]] || return 0
  rm -rf "$cache/$1".part.*
  part=$(mktemp -d "$cache/$1.part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  "$fill" "$part" || die "could not fetch or build $1"
  mv "$part" "$target"
)

# Runs the one test $1 of tests/it, showing what it says. Cargo is content with a name that is no test's; this is not.
run_it() {
  local listed
  listed=$(cargo test --quiet --locked --test it -- --exact "$1" --list) || return 1
  if [[ $'\n'$listed$'\n' != *$'\n'"$1: test"$'\n'* ]]; then
    printf 'error: tests/it has no test %s\n' "$1" >&2
    return 1
  fi
  cargo test --locked --test it -- --exact "$1" --nocapture
}
