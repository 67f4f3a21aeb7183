//! A JSON reader that finds where values begin and end, and changes nothing.
//!
//! It accepts exactly the grammar of RFC 8259 over text that is already known to be UTF-8. Numbers are never
//! converted and escapes never decoded while skipping, so any digits and any `\u` escape (lone surrogates too)
//! pass. Nesting is counted in a bit stack: there is no recursion and no allocation below 129 levels.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use smallvec::SmallVec;

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Offset in bytes.
    pub(crate) at: usize,
    /// What was wrong there.
    pub(crate) what: What,
}

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A byte that cannot stand there, or the end of the text.
    Syntax,
    /// More levels than allowed.
    Depth,
}

/// A position in a text.
pub(crate) struct Reader<'b> {
    text: &'b str,
    at: usize,
    depth_max: u32,
}

/// The open containers, one bit each: set = object.
#[derive(Default)]
struct Stack {
    bits: SmallVec<[u64; 2]>,
    len: u32,
}

impl Stack {
    fn push(&mut self, object: bool) {
        let (word, bit) = ((self.len / 64) as usize, self.len % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        if let Some(word) = self.bits.get_mut(word) {
            *word = *word & !(1 << bit) | u64::from(object) << bit;
        }
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// Whether the innermost open container is an object; `None` = none is open.
    fn top(&self) -> Option<bool> {
        let last = self.len.checked_sub(1)?;
        let word = self.bits.get((last / 64) as usize)?;
        Some(word >> (last % 64) & 1 == 1)
    }
}

type Read<T> = Result<T, Flaw>;

impl<'b> Reader<'b> {
    /// Starts at offset `at`; containers opened from there on may nest `depth_max` levels.
    pub(crate) const fn new(text: &'b str, at: usize, depth_max: u32) -> Self {
        Self { text, at, depth_max }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    const fn flaw<T>(&self, what: What) -> Read<T> {
        Err(Flaw { at: self.at, what })
    }

    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes this byte or fails.
    pub(crate) fn expect(&mut self, byte: u8) -> Read<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.flaw(What::Syntax)
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Read<()> {
        self.space();
        if self.peek().is_none() { Ok(()) } else { self.flaw(What::Syntax) }
    }

    /// Takes a string and gives its span, quotes included.
    pub(crate) fn string(&mut self) -> Read<Range<usize>> {
        let start = self.at;
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(run) = memchr2(b'"', b'\\', rest) else {
                self.at = bytes.len();
                return self.flaw(What::Syntax);
            };
            // Folded rather than `any`, so that it runs on whole vectors: bodies are mostly one long string.
            if rest[..run].iter().fold(false, |bad, byte| bad | (*byte < 0x20)) {
                return self.flaw(What::Syntax);
            }
            self.at += run + 1;
            if rest[run] == b'"' {
                return Ok(start..self.at);
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(byte) if byte.is_ascii_hexdigit() => self.at += 1,
                        _ => return self.flaw(What::Syntax),
                    }
                }
            }
            _ => return self.flaw(What::Syntax),
        }
        Ok(())
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.flaw(What::Syntax) } else { Ok(()) }
    }

    fn number(&mut self) -> Read<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Read<()> {
        if self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()))
        {
            self.at += word.len();
            return Ok(());
        }
        self.flaw(What::Syntax)
    }

    /// A value that is not a container.
    fn scalar(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.flaw(What::Syntax),
        }
    }

    /// Takes one whole value, whatever it is, and gives its span.
    pub(crate) fn value(&mut self) -> Read<Range<usize>> {
        let start = self.at;
        let mut open = Stack::default();
        loop {
            if let Some(byte @ (b'{' | b'[')) = self.peek() {
                if open.len >= self.depth_max {
                    return self.flaw(What::Depth);
                }
                self.at += 1;
                self.space();
                let object = byte == b'{';
                if self.peek() != Some(if object { b'}' } else { b']' }) {
                    open.push(object);
                    if object {
                        self.key()?;
                    }
                    continue;
                }
                self.at += 1;
            } else {
                self.scalar()?;
            }
            if self.close(&mut open)? {
                return Ok(start..self.at);
            }
        }
    }

    /// After a value: closes what ends here and goes to the next value; true when the outermost is complete.
    fn close(&mut self, open: &mut Stack) -> Read<bool> {
        while let Some(object) = open.top() {
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    if object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if object => self.at += 1,
                Some(b']') if !object => self.at += 1,
                _ => return self.flaw(What::Syntax),
            }
            open.pop();
        }
        Ok(true)
    }

    /// Takes `"key" :` with the white space around the colon, and gives the key's span.
    fn key(&mut self) -> Read<Range<usize>> {
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    /// Walks the members of the object that starts here; the reader ends after its closing brace. `see` gets
    /// the spans of each key and value.
    pub(crate) fn members(&mut self, mut see: impl FnMut(Range<usize>, Range<usize>)) -> Read<()> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let value = self.value()?;
            see(key, value);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.flaw(What::Syntax),
            }
            self.space();
        }
    }

    /// Walks the elements of the array that starts here.
    pub(crate) fn elements(&mut self, mut see: impl FnMut(Range<usize>)) -> Read<()> {
        self.expect(b'[')?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            see(self.value()?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.flaw(What::Syntax),
            }
            self.space();
        }
    }
}

/// The text of a string span (quotes included); `None` where it holds a lone surrogate.
pub(crate) fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
}
