//! `loadgen`: an open-loop load against a gateway on loopback, each answer held against the text that
//! the scripted upstream recites.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::generator::{self, Load};

/// Sends chat requests at a fixed rate and checks every answer. Exit code 2: an answer was silently
/// wrong; 3: an answer failed.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
struct Args {
    /// Base URL without /v1; loopback only.
    #[arg(long)]
    url: String,
    /// Key, sent as bearer token.
    #[arg(long)]
    key: Option<String>,
    /// Model.
    #[arg(long, default_value = "tiny")]
    model: String,
    /// Requests per second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// At most so many requests.
    #[arg(long)]
    count: Option<u64>,
    /// Share of streams, 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    streams: f64,
    /// Words of a whole answer.
    #[arg(long, default_value_t = 20)]
    words: usize,
    /// Script for the upstream, put into the body as `fake`: JSON.
    #[arg(long)]
    fake: Option<String>,
    /// More members for the body: JSON members without braces.
    #[arg(long)]
    extra: Option<String>,
    /// Give each request a `seed` of its own, counted from here, so that no two are the same.
    #[arg(long)]
    seeds: Option<u64>,
    /// Seconds after which a request has failed.
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// A connection for each request.
    #[arg(long)]
    no_keep_alive: bool,
    /// Leave each stream after so many events.
    #[arg(long)]
    leave_after: Option<usize>,
    /// Response header whose values are counted.
    #[arg(long, default_value = "x-forebay-backend")]
    count_header: String,
    /// Print JSON in place of the summary.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            let _ = writeln!(std::io::stderr(), "loadgen: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let fake = args.fake.as_ref().map(|fake| format!(r#""fake":{fake}"#));
    let extra: Vec<String> = fake.into_iter().chain(args.extra.clone()).collect();
    let report = generator::run(Load {
        url: args.url.clone(),
        key: args.key.clone(),
        model: args.model.clone(),
        rate: args.rate,
        duration: Duration::try_from_secs_f64(args.duration)?,
        count: args.count,
        streams: args.streams,
        words: args.words,
        extra: extra.join(","),
        seeds: args.seeds,
        timeout: Duration::try_from_secs_f64(args.timeout)?,
        keep_alive: !args.no_keep_alive,
        leave_after: args.leave_after,
        count_header: args.count_header.clone(),
        ..Load::default()
    })?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{report}")?;
    }
    let counts = report.counts;
    Ok(if counts.silent_truncations + counts.corrupt > 0 {
        ExitCode::from(2)
    } else if counts.ok + counts.left < counts.offered {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}
