//! A measured run: a few short streamed answers from one backend, one after another, and how fast they came.

use std::time::{Duration, Instant};

use adapters::{Scanner, StreamDialect, StreamEnd};
use router::Operation;
use router::spec::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::outbound::{Ask, Located, Outbound, OutboundError};

/// Most requests of a run.
pub const REQUESTS_MAX: u32 = 20;
/// Requests of a run when nothing is said.
pub const REQUESTS: u32 = 3;
/// Most tokens of an answer.
pub const TOKENS_MAX: u32 = 512;
/// Tokens of an answer when nothing is said.
pub const TOKENS: u32 = 64;
/// Longest prompt, bytes.
pub const PROMPT_MAX: usize = 4096;
/// Longest time for one answer, a model that has to be loaded included.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// What is asked when nothing is said.
pub const PROMPT: &str = "Count from one to one hundred in words.";

/// What is asked for in a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The backend's name for the model.
    pub model: String,
    /// How many requests.
    pub requests: u32,
    /// Most tokens of each answer.
    pub max_tokens: u32,
    /// What is asked.
    pub prompt: String,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// It came whole.
    pub ok: bool,
    /// Until the first content event, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_ms: Option<f64>,
    /// Until its end, milliseconds.
    pub duration_ms: f64,
    /// Tokens written: as the server says, else its events.
    pub output_tokens: u64,
    /// What went wrong, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "timeout")]
    pub error: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// The backend that answered.
    #[schema(example = "eu-vllm-1")]
    pub backend: String,
    /// Its name for the model.
    pub upstream_model: String,
    /// Share of answers that came whole, 0 to 1.
    pub success_rate: f64,
    /// Mean time to the first content event, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_ms: Option<f64>,
    /// Tokens per second from the first event on, mean over the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Every answer.
    pub runs: Vec<Run>,
}

/// Puts the answers of a run together.
#[must_use]
pub fn summary(backend: &str, upstream_model: &str, runs: Vec<Run>) -> Profile {
    let whole: Vec<&Run> = runs.iter().filter(|run| run.ok).collect();
    let all = f64::from(u32::try_from(runs.len()).unwrap_or(u32::MAX));
    let good = f64::from(u32::try_from(whole.len()).unwrap_or(u32::MAX));
    let first = mean(whole.iter().filter_map(|run| run.first_event_ms));
    let speed = mean(whole.iter().filter_map(|run| speed(run)));
    Profile {
        backend: backend.to_owned(),
        upstream_model: upstream_model.to_owned(),
        success_rate: if all > 0.0 { good / all } else { 0.0 },
        first_event_ms: first,
        tokens_per_second: speed,
        runs,
    }
}

/// Tokens after the first one, by the time that they took.
fn speed(run: &Run) -> Option<f64> {
    let seconds = (run.duration_ms - run.first_event_ms?) / 1e3;
    let tokens = u32::try_from(run.output_tokens).ok()?.checked_sub(1)?;
    (seconds > 0.0 && tokens > 0).then(|| f64::from(tokens) / seconds)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Asks once and reads the answer to its end.
pub async fn run(client: &Outbound, at: &Located, key: Option<&Secret>, plan: &Plan) -> Run {
    let begun = Instant::now();
    let mut seen = Seen::default();
    let asked = read(client, at, key, plan, begun, &mut seen);
    let error = match tokio::time::timeout(ANSWER_TIME_MAX, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some("timeout".to_owned()),
    };
    Run {
        ok: error.is_none(),
        first_event_ms: seen.first.map(|time| time.as_secs_f64() * 1e3),
        duration_ms: begun.elapsed().as_secs_f64() * 1e3,
        output_tokens: seen.tokens,
        error,
    }
}

#[derive(Debug, Default)]
struct Seen {
    first: Option<Duration>,
    tokens: u64,
}

/// Reads a stream; the error is one word.
async fn read(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
    plan: &Plan,
    begun: Instant,
    seen: &mut Seen,
) -> Result<(), String> {
    let body = json!({
        "model": plan.model,
        "messages": [{"role": "user", "content": plan.prompt}],
        "max_tokens": plan.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let body = body.to_string();
    let ask = Ask { path: Operation::ChatCompletions.path(), api_key: key, body: Some(&body) };
    let word = |error: OutboundError| error.code().to_owned();
    let mut answer = client.open(at, ask, ANSWER_TIME_MAX).await.map_err(word)?;
    if answer.status != 200 {
        return Err(format!("status_{}", answer.status));
    }
    let mut scanner = Scanner::new(StreamDialect::Chat, 1);
    while let Some(piece) = answer.next().await.map_err(word)? {
        let scan = scanner.push(&piece);
        if scan.first_content && seen.first.is_none() {
            seen.first = Some(begun.elapsed());
        }
        seen.tokens += u64::from(scan.events);
    }
    if let Some(usage) = scanner.usage() {
        seen.tokens = usage.completion_tokens;
    }
    match scanner.finish() {
        StreamEnd::Complete => Ok(()),
        StreamEnd::Unfinished => Err("broken_off".to_owned()),
        StreamEnd::Failed | StreamEnd::Aborted => Err("failed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use loadtest::{At, How, Profile as Plays, Script, Upstream};

    use super::*;
    use crate::outbound::Target;

    async fn located(upstream: &Upstream) -> (Outbound, Located) {
        let client = Outbound::default();
        let at = client.locate(Target::parse(&upstream.url()).unwrap()).await.unwrap();
        (client, at)
    }

    fn plan() -> Plan {
        Plan { model: "tiny".to_owned(), requests: 1, max_tokens: 16, prompt: PROMPT.to_owned() }
    }

    #[tokio::test]
    async fn a_whole_answer_is_measured() {
        let upstream = Upstream::start(Plays::vllm(&["tiny"])).unwrap();
        upstream.script(Script::words(20, 2));
        let (client, at) = located(&upstream).await;
        let one = run(&client, &at, None, &plan()).await;
        assert_eq!((one.ok, &one.error), (true, &None));
        let first = one.first_event_ms.unwrap();
        assert!(first > 0.0 && first < one.duration_ms);
        assert!(one.output_tokens > 0);
        let found = summary("b", "tiny", vec![one]);
        assert!((found.success_rate - 1.0).abs() < 1e-9);
        assert!(found.tokens_per_second.unwrap() > 0.0);
        let sent = upstream.inferences().remove(0).json();
        assert_eq!((sent["max_tokens"].as_u64(), sent["stream"].as_bool()), (Some(16), Some(true)));
    }

    #[tokio::test]
    async fn a_broken_answer_is_no_success() {
        let upstream = Upstream::start(Plays::vllm(&["tiny"])).unwrap();
        upstream.script(Script::broken(At::Events(3), How::CleanEnd));
        let (client, at) = located(&upstream).await;
        let broken = run(&client, &at, None, &plan()).await;
        assert!(!broken.ok, "{broken:?}");
        upstream.refuse(true);
        let refused = run(&client, &at, None, &plan()).await;
        assert_eq!(refused.error.as_deref(), Some("refused"));
        let found = summary("b", "tiny", vec![broken, refused]);
        assert!(found.success_rate.abs() < 1e-9 && found.tokens_per_second.is_none());
    }
}
