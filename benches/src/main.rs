//! `instructions CASE TIMES`: does one thing so often, and nothing else that depends on how often.
//!
//! The tests run it under callgrind with one number of times and with twice as many; the difference is what the
//! case costs, without the start of the process and without whatever the case prepares.

mod cases;
mod inputs;
mod requests;
mod world;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, times] = arguments.as_slice() else {
        return usage("two arguments are expected");
    };
    let Ok(times) = times.parse() else { return usage("TIMES is not a number") };
    match cases::CASES.iter().find(|(name, _)| name == case) {
        Some((_, run)) => {
            run(times);
            ExitCode::SUCCESS
        }
        None => usage("there is no such case"),
    }
}

fn usage(what: &str) -> ExitCode {
    let names: Vec<&str> = cases::CASES.iter().map(|(name, _)| *name).collect();
    // Nothing is left to do when stderr is closed.
    let _ = writeln!(
        std::io::stderr(),
        "instructions: {what}\nusage: instructions CASE TIMES\ncases: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}
