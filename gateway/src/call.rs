//! One inference request on its way: what every attempt of it shares.

use std::sync::Arc;

use adapters::Peek;
use http::HeaderMap;
use router::Operation;
use tokio::time::Instant;

use crate::connection::Core;
use crate::plane::World;
use crate::request::Held;
use crate::request_id::RequestId;
use crate::route::Route;

/// Immutable; dropped, with the body, when the answer is committed.
pub(crate) struct Call {
    pub(crate) core: Arc<Core>,
    /// The one snapshot of this request.
    pub(crate) world: Arc<World>,
    pub(crate) operation: Operation,
    pub(crate) route: Route,
    pub(crate) body: Arc<Held>,
    pub(crate) peek: Peek<'static>,
    /// A usage that the client did not ask for is wanted, and kept from it.
    pub(crate) adds_usage: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Option<String>,
    pub(crate) id: RequestId,
    pub(crate) begun: Instant,
}

/// The facts of a body without their tie to it.
pub(crate) fn owned(peek: &Peek<'_>) -> Peek<'static> {
    Peek {
        model: peek.model.clone().into_owned().into(),
        user: peek.user.clone().map(|user| user.into_owned().into()),
        model_span: peek.model_span.clone(),
        stream: peek.stream,
        stream_options: peek.stream_options.clone(),
        include_usage: peek.include_usage,
        include_usage_span: peek.include_usage_span.clone(),
        max_tokens: peek.max_tokens.clone(),
        max_completion_tokens: peek.max_completion_tokens.clone(),
        n: peek.n,
        prompts: peek.prompts,
        prompt: peek.prompt.clone(),
        tools: peek.tools.clone(),
        insert_at: peek.insert_at,
    }
}
