//! Finding where events end, whatever the line ends and however the bytes are split.

use memchr::memchr2;

/// Longest split event that is kept to be looked at, in bytes.
pub const EVENT_MAX_BYTES: usize = 64 << 10;

/// Room for split events that a stream keeps between them, in bytes; there are thousands of streams.
const CARRY_KEPT_BYTES: usize = 4 << 10;

/// A block of lines up to and including a blank one.
pub(super) struct Block<'b> {
    /// Its bytes; empty when `cut`.
    pub(super) bytes: &'b [u8],
    /// It was longer than [`EVENT_MAX_BYTES`] and came in parts.
    pub(super) cut: bool,
    /// Offset in the chunk of its first byte; `None` when it began in an earlier chunk.
    pub(super) start: Option<usize>,
    /// Offset in the chunk just after it.
    pub(super) end: usize,
}

/// Splits a stream into blocks. LF, CR and CRLF end a line, in any mixture.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The start of a block that began in an earlier chunk.
    carry: Vec<u8>,
    /// Bytes of the incomplete block, also those that are not kept.
    pending: usize,
    /// The current line has bytes.
    mid_line: bool,
    /// The last byte was CR: an LF now belongs to it.
    after_cr: bool,
    /// The incomplete block is too long to keep.
    cut: bool,
    gave_up: bool,
    started: bool,
}

impl Framer {
    /// Calls `see` for each block that ends in this chunk and gives the offset after the last of them.
    pub(super) fn push(&mut self, chunk: &[u8], mut see: impl FnMut(&Block<'_>)) -> Option<usize> {
        let mut boundary = None;
        let mut start = 0;
        if self.pending == 0 && self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            if chunk[0] == b'\n' {
                start = 1;
                boundary = Some(1);
            }
        }
        while let Some(end) = self.block_end(chunk, start) {
            self.deliver(&chunk[start..end], start, end, &mut see);
            start = end;
            boundary = Some(end);
        }
        self.keep(&chunk[start..]);
        boundary
    }

    /// Offset just after the blank line that ends the current block.
    fn block_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let rest = chunk.get(at..)?;
            if self.after_cr {
                let first = rest.first()?;
                self.after_cr = false;
                if *first == b'\n' {
                    at += 1;
                    continue;
                }
            }
            let Some(len) = memchr2(b'\n', b'\r', rest) else {
                self.mid_line |= !rest.is_empty();
                return None;
            };
            let blank = len == 0 && !self.mid_line;
            self.mid_line = false;
            self.after_cr = rest[len] == b'\r';
            at += len + 1;
            if blank {
                if self.after_cr && chunk.get(at) == Some(&b'\n') {
                    self.after_cr = false;
                    at += 1;
                }
                return Some(at);
            }
        }
    }

    fn deliver(&mut self, part: &[u8], start: usize, end: usize, see: &mut impl FnMut(&Block<'_>)) {
        let start = (self.pending == 0).then_some(start);
        self.cut |= self.pending > 0 && self.carry.len() + part.len() > EVENT_MAX_BYTES;
        self.gave_up |= self.cut;
        if self.cut {
            self.carry = Vec::new();
            see(&Block { bytes: &[], cut: true, start, end });
        } else if self.pending == 0 {
            see(&Block { bytes: self.unmarked(part), cut: false, start, end });
        } else {
            self.carry.extend_from_slice(part);
            see(&Block { bytes: self.unmarked(&self.carry), cut: false, start, end });
        }
        self.started = true;
        self.carry.clear();
        self.carry.shrink_to(CARRY_KEPT_BYTES);
        self.pending = 0;
        self.cut = false;
    }

    /// The first block of a stream without its byte order mark.
    fn unmarked<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        match block.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.started => rest,
            _ => block,
        }
    }

    fn keep(&mut self, part: &[u8]) {
        self.pending += part.len();
        if self.pending > EVENT_MAX_BYTES {
            self.cut = true;
            self.gave_up = true;
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(part);
        }
    }

    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.carry.capacity()
    }

    /// What is kept of the incomplete block.
    pub(super) fn tail(&self) -> &[u8] {
        &self.carry
    }

    /// The incomplete block is longer than what is kept.
    pub(super) const fn overflowed(&self) -> bool {
        self.cut
    }

    /// The last byte was a CR.
    pub(super) const fn awaits_lf(&self) -> bool {
        self.after_cr
    }

    pub(super) const fn gave_up(&self) -> bool {
        self.gave_up
    }
}
