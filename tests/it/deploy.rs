//! The command lines and settings in the deployment files are ones that this binary takes.

use std::process::Command;

use crate::support::frontstream;

/// Asks the validator for what it found in the Dockerfile, the compose file, the manifests and their guide.
fn listed(option: &str) -> Vec<String> {
    let output = Command::new("scripts/validate-deploy")
        .arg(option)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "scripts/validate-deploy {option}: {wrong}"
    );
    said.lines().map(str::to_owned).collect()
}

#[test]
fn every_command_line_is_taken() {
    let lines = listed("--commands");
    assert!(
        lines.iter().any(|line| line.starts_with("receiver ")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("processor ")),
        "{lines:?}"
    );
    for line in lines {
        // With `--help` last nothing runs, and every word before it is still parsed.
        let words: Vec<_> = line.split_whitespace().chain(["--help"]).collect();
        let output = frontstream(&words).output().unwrap();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "frontstream {line}: {wrong}");
    }
    let unknown = frontstream(&["receiver", "--no-such-option", "--help"])
        .output()
        .unwrap();
    assert!(
        !unknown.status.success(),
        "an option that does not exist is refused in spite of --help"
    );
}

#[test]
fn every_settings_file_is_right_for_both_roles() {
    let files = listed("--configs");
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        for role in ["receiver", "processor"] {
            let output = frontstream(&["config", "check", "--config", &file, "--role", role])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                // Named by the example overlay, which takes it from a secret of the cluster.
                .env("KAFKA_PASSWORD", "of-the-cluster")
                .env("FRONT_APP_SECRET", "of-the-test")
                .env(
                    "FRONTSTREAM_RECEIVER_APPLICATION_SECRETS",
                    "current=env:FRONT_APP_SECRET",
                )
                .output()
                .unwrap();
            let wrong = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{file} as {role}: {wrong}");
        }
    }
}
