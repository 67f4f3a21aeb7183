//! The usage that we asked an upstream for and the client did not: taken out of the stream again.

use adapters::EventSpan;
use bytes::Bytes;
use smallvec::SmallVec;

/// A chunk without an event that lies in it, as up to two pieces; `boundary`, an offset in the chunk, becomes one in the
/// last piece. The part of such an event that came in earlier chunks is held back by whoever holds incomplete events.
pub(crate) fn without(
    mut chunk: Bytes,
    event: Option<EventSpan>,
    boundary: &mut Option<usize>,
) -> SmallVec<[Bytes; 2]> {
    let mut pieces = SmallVec::new();
    let Some(event) = event else {
        pieces.push(chunk);
        return pieces;
    };
    let (start, end) = (event.start.unwrap_or(0), event.end.min(chunk.len()));
    let rest = chunk.split_off(end);
    chunk.truncate(start);
    if rest.is_empty() {
        *boundary = Some(chunk.len());
        pieces.push(chunk);
        return pieces;
    }
    *boundary = boundary.map(|boundary| boundary.saturating_sub(end));
    pieces.extend([chunk, rest]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_event_goes() {
        let text = "data: a\n\ndata: usage\n\ndata: b";
        for (event, boundary, left) in [
            (Some(EventSpan { start: Some(9), end: 22 }), 22, (vec!["data: a\n\n", "data: b"], 0)),
            (Some(EventSpan { start: None, end: 9 }), 22, (vec!["", "data: usage\n\ndata: b"], 13)),
            (Some(EventSpan { start: Some(9), end: 29 }), 29, (vec!["data: a\n\n"], 9)),
            (None, 22, (vec![text], 22)),
        ] {
            let mut boundary = Some(boundary);
            let pieces = without(Bytes::from_static(text.as_bytes()), event, &mut boundary);
            assert_eq!(
                (pieces.to_vec(), boundary),
                (left.0.iter().map(|s| Bytes::from(*s)).collect(), Some(left.1))
            );
        }
    }
}
