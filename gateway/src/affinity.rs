//! What ties a request to a backend for the policies that want the same one again.

use adapters::Peek;
use bytes::Bytes;
use http::HeaderMap;
use router::TenantName;
use router::spec::{Policy, SessionSource};

use crate::plane::World;

/// Bytes of the prompt that `prefix_hash` looks at.
pub const PREFIX_BYTES: usize = 2 << 10;

/// The affinity of a request under its model's policy; `None` where the policy wants none or the request gives none.
/// Tenants do not share prefixes, so that the time of one's answer tells nothing of what another asked.
pub(crate) fn of(
    world: &World,
    tenant: Option<&TenantName>,
    headers: &HeaderMap,
    body: &Bytes,
    peek: &Peek<'_>,
) -> Option<u64> {
    let model = world.model(&peek.model)?;
    let policy = model.spec.policy.as_ref().unwrap_or(&world.spec().policy);
    match policy {
        Policy::LeastLoad | Policy::RoundRobin => None,
        Policy::PrefixHash => {
            let prompt = body.get(peek.prompt.clone()?)?;
            let tools = peek.tools.clone().and_then(|span| body.get(span)).unwrap_or_default();
            Some(prefix(prompt, tools, tenant.map_or("", TenantName::as_str)))
        }
        Policy::Session(SessionSource::User) => {
            peek.user.as_ref().map(|user| digest(&[user.as_bytes()]))
        }
        Policy::Session(SessionSource::Header(name)) => {
            headers.get(name).map(|value| digest(&[value.as_bytes()]))
        }
    }
}

fn prefix(prompt: &[u8], tools: &[u8], tenant: &str) -> u64 {
    digest(&[&prompt[..prompt.len().min(PREFIX_BYTES)], tools, tenant.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_its_start_its_tools_and_its_tenant() {
        let (start, longer) = ([b'x'; PREFIX_BYTES], [b'x'; 2 * PREFIX_BYTES]);
        let one = prefix(&start, b"[]", "a");
        assert_eq!(one, prefix(&longer, b"[]", "a"));
        assert_ne!(one, prefix(&start[1..], b"[]", "a"));
        assert_ne!(one, prefix(&start, b"[1]", "a"));
        assert_ne!(one, prefix(&start, b"[]", "b"));
        assert_ne!(prefix(b"x", b"", "y"), prefix(b"", b"x", "y"));
    }
}
