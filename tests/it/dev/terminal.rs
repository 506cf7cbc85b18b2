//! `dev` at a terminal: the live view, the terminal given back, and what people set.

use std::process::Command;

/// Runs `dev` at a terminal of 100 columns and 50 rows, as a shell does, with these variables and `after` behind it;
/// returns all that the terminal was sent. `None` where there is no `script` to make a terminal.
fn at_a_terminal(environment: &[(&str, &str)], after: &str) -> Option<String> {
    let make_terminal = |command: &str| {
        Command::new("script")
            .args(["--quiet", "--return", "--command", command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(environment.iter().copied())
            .output()
    };
    make_terminal("true")
        .ok()
        .filter(|output| output.status.success())?;
    let dev = env!("CARGO_BIN_EXE_frontstream");
    let command = format!(
        "stty rows 50 columns 100; '{dev}' dev --duration 2s --rate 20 --set log.filter=info && {after}"
    );
    let output = make_terminal(&command).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    Some(text)
}

#[test]
fn the_view_is_drawn_above_it_the_log_and_the_terminal_is_as_it_was() {
    let Some(text) = at_a_terminal(&[("TERM", "xterm")], "stty -a") else {
        return;
    };
    assert!(
        text.contains("running 0:0") && text.contains("priority   refreshes"),
        "{text}"
    );
    assert!(text.contains("\x1b[1;31m  high    \x1b[0m"), "{text}");
    // A line of the log takes the block away first.
    let (_, log) = text.split_once("partitions assigned").unwrap();
    assert!(log.contains("\x1b[J"), "{log}");
    assert!(text.contains("audit     exact: "), "{text}");
    let (_, modes) = text.rsplit_once("audit     exact: ").unwrap();
    assert!(modes.contains(" echo ") && !modes.contains("-echo "), "{modes}");
}

#[test]
fn without_colours_where_nobody_wants_them() {
    let Some(text) = at_a_terminal(&[("TERM", "xterm"), ("NO_COLOR", "1")], "true") else {
        return;
    };
    assert!(text.contains("running 0:0"), "{text}");
    let commands = text.split("\x1b[").skip(1);
    let mut commands = commands.filter_map(|escape| escape.chars().find(char::is_ascii_alphabetic));
    assert!(commands.all(|command| "AJK".contains(command)), "{text}");
}

#[test]
fn lines_where_the_cursor_cannot_move() {
    let Some(text) = at_a_terminal(&[("TERM", "dumb"), ("NO_COLOR", "1")], "true") else {
        return;
    };
    assert!(
        text.contains("after the first, closed by") && !text.contains('\x1b'),
        "{text}"
    );
}
