//! Running a printed `curl` line: by curl where there is one, and by hand.

use std::process::Command;

use super::process::http;

/// Runs the line as a shell does, and returns the whole answer; `None` where there is no curl.
pub(crate) fn run(line: &str) -> Option<String> {
    Command::new("curl").arg("--version").output().ok()?;
    let output = Command::new("sh")
        .args(["-c", line])
        .env_remove("http_proxy")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{line}: {output:?}");
    Some(String::from_utf8(output.stdout).expect("an answer in UTF-8"))
}

/// Posts over a socket what the line says, and returns the whole answer.
pub(crate) fn replay(line: &str) -> String {
    let words = words_of(line);
    let mut words = words.iter().map(String::as_str);
    assert_eq!((words.next(), words.next()), (Some("curl"), Some("-i")));
    let url = words
        .next()
        .expect("a URL")
        .strip_prefix("http://")
        .expect("http");
    let (authority, path) = url.split_once('/').expect("a path");
    let (mut headers, mut body) = (String::new(), Vec::new());
    while let Some(flag) = words.next() {
        let value = words.next().expect("each flag has a value");
        match flag {
            "-H" => headers.push_str(&format!("{value}\r\n")),
            "-d" => body = value.as_bytes().to_vec(),
            "--data-binary" => body = std::fs::read(value.trim_start_matches('@')).expect("a file"),
            other => panic!("unknown flag {other} in {line}"),
        }
    }
    let body = String::from_utf8(body).expect("a body in UTF-8");
    let request = format!(
        "POST /{path} HTTP/1.1\r\nhost: {authority}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    http(authority.parse().expect("an address"), &request).expect("an answer")
}

/// Lets a shell take the line apart.
fn words_of(line: &str) -> Vec<String> {
    let output = Command::new("sh")
        .args(["-c", &format!("printf '%s\\0' {line}")])
        .output()
        .expect("sh starts");
    let text = String::from_utf8(output.stdout).expect("words in UTF-8");
    text.split_terminator('\0').map(str::to_owned).collect()
}
