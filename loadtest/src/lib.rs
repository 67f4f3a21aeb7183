//! A scripted inference server for tests, and a load generator.
//!
//! [`Upstream`] plays vLLM, Ollama, llama-server or Text Embeddings Inference over sockets that it
//! controls to the byte: it recites a text that tests can compute ([`text`]), and breaks in every
//! way that a [`Script`] can say. It knows nothing of the gateway.
//!
//! ```
//! use loadtest::{At, How, Profile, Script, Upstream};
//!
//! let upstream = Upstream::start(Profile::vllm(&["tiny"]))?;
//! upstream.script(Script::words(100, 5));
//! upstream.script_next(1, Script::broken(At::Events(3), How::Reset));
//! assert_eq!(upstream.stats().requests, 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod answer;
mod ask;
mod connection;
mod control;
mod dialect;
mod discovery;
pub mod embed;
pub mod generator;
mod head;
mod http;
mod plan;
mod profile;
mod recorder;
mod script;
mod shared;
mod sse;
pub mod text;
mod upstream;
mod writer;

pub use profile::{Kind, Profile, Vitals};
pub use recorder::{MAX_RECORDED, MAX_RECORDED_BYTES, Recorded, Stats};
pub use script::{
    After, At, Blob, Eol, Fault, Fixed, Framing, How, Pad, Part, Script, Sse, ToolCall, Usage,
    Writes,
};
pub use upstream::Upstream;
