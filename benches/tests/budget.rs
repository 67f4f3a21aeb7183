//! What the hot path costs in instructions, against `budget.toml`. Times vary with the machine and its load, counts hardly.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test is how these tests report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How often a case is done in the shorter of its two runs. The longer one does it twice as often.
const TIMES: u64 = 200;
/// The same for bodies of a mebibyte.
const TIMES_LARGE: u64 = 2;
/// The same for what a data plane does: its tables are seeded at random, and it has threads.
const TIMES_PLANE: u64 = 20_000;
/// The same for plans: hashes are seeded at random, so that building the world does not always cost the same.
const TIMES_PLAN: u64 = 4_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn budget() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(root().join("benches/budget.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

fn checked(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

/// The program that is counted, in the profile that is shipped: counts of unoptimised code mean nothing.
fn build() -> PathBuf {
    let arguments = ["build", "--release", "--package", "benches", "--message-format", "json"];
    let output = checked(Command::new(env!("CARGO")).args(arguments).current_dir(root()));
    let messages = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = messages.split_once(r#""executable":""#).unwrap();
    rest.split_once('"').unwrap().0.into()
}

/// Instructions of one run, as callgrind sums them up: `==1== Collected : 123`.
fn run(program: &Path, case: &str, times: u64) -> u64 {
    let valgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let mut command = Command::new("valgrind");
    command.args(valgrind).arg(program).args([case, &times.to_string()]);
    // Nothing of the environment, lest its size decides how the stack is aligned.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let stderr = String::from_utf8(checked(&mut command).stderr).unwrap();
    let collected = stderr.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or_else(|| panic!("{stderr}"))
}

/// Instructions of one time.
fn count(program: &Path, case: &str) -> u64 {
    let times = match case {
        "peek_1m" => TIMES_LARGE,
        "plan_in_a_large_world" => TIMES_PLAN,
        "cache_hit" | "cache_miss" | "limits_check" => TIMES_PLANE,
        _ => TIMES,
    };
    let (once, twice) = (run(program, case, times), run(program, case, 2 * times));
    twice.checked_sub(once).unwrap() / times
}

#[test]
fn the_hot_path_stays_within_its_instructions() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("not counted: valgrind is not installed (`make test` installs it)");
        return;
    }
    let program = build();
    let mut over = Vec::new();
    for (case, most) in budget() {
        let counted = count(&program, &case);
        println!("{case:28} {counted:>9} of {most:>9}");
        if counted > most {
            over.push(format!("{case}: {counted} instructions, {most} allowed"));
        }
        assert!(counted > 0, "{case} does nothing");
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

/// Every case has a budget, and every budget a case: the program lists its cases when it is asked for none.
#[test]
fn every_case_has_a_budget() {
    let output = Command::new(env!("CARGO_BIN_EXE_instructions")).output().unwrap();
    let usage = String::from_utf8(output.stderr).unwrap();
    let (_, cases) = usage.split_once("cases: ").unwrap();
    let cases: Vec<&str> = cases.split_whitespace().collect();
    let budget = budget();
    for case in &cases {
        assert!(budget.contains_key(*case), "{case} has no budget");
    }
    assert_eq!(budget.len(), cases.len(), "a budget without a case");
}
