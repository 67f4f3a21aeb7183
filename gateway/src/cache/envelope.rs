//! The form in which an answer lies in Redis: versioned, checked as a whole, with its body in LZ4.
//!
//! What is read there may be anything: cut, changed, another answer's, or a later version's. The check is a keyed digest
//! over the answer's name and all that follows, so that nothing is looked at that was not written by a gateway with the
//! same key, under this very name. All numbers are little-endian.

use std::fmt;

/// Says what it is and in which version; whatever else stands there is another format.
const MAGIC: &[u8; 4] = b"fbc\x01";
/// Bytes of the digest that are kept.
const CHECK: usize = 16;
/// The length of a text that is absent.
const ABSENT: u16 = u16::MAX;
/// What an envelope holds beside its body at most, bytes: six texts and the numbers.
pub(crate) const HEAD_MAX: usize = 8 << 10;

/// A stored answer in plain numbers and texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Envelope {
    pub(crate) stream: bool,
    pub(crate) status: u16,
    /// Unix time, ms.
    pub(crate) stored: u64,
    /// How long it is good, ms.
    pub(crate) ttl: u64,
    /// How long it took to make, ms.
    pub(crate) cost: u64,
    pub(crate) stamp: [u64; 4],
    pub(crate) texts: [Option<String>; TEXTS],
    /// Tokens: prompt, completion, total, cached, reasoning.
    pub(crate) usage: Option<[Option<u64>; 5]>,
    pub(crate) body: Vec<u8>,
}

/// The texts: content type, region, head, model, tenant, key.
pub(crate) const TEXTS: usize = 6;

/// It is not an answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a stored answer")
    }
}

/// Writes an answer under its name.
pub(crate) fn seal(envelope: &Envelope, name: &[u8; 32], key: &[u8; 32]) -> Vec<u8> {
    let inner = write(envelope);
    let mut out = Vec::with_capacity(MAGIC.len() + CHECK + inner.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&check(&inner, name, key));
    out.extend_from_slice(&inner);
    out
}

/// Reads an answer of this name whose body has at most `body_max` bytes.
///
/// # Errors
/// For everything that [`seal`] did not write with this name and key.
pub(crate) fn open(
    bytes: &[u8],
    name: &[u8; 32],
    key: &[u8; 32],
    body_max: usize,
) -> Result<Envelope, Corrupt> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Corrupt)?;
    let (sum, inner) = rest.split_at_checked(CHECK).ok_or(Corrupt)?;
    // Who could write a digest into Redis could also read one there: the time of a comparison gives nothing away.
    if sum != check(inner, name, key) {
        return Err(Corrupt);
    }
    read(inner, body_max)
}

fn check(inner: &[u8], name: &[u8; 32], key: &[u8; 32]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(MAGIC).update(name).update(inner);
    let mut sum = [0; CHECK];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    sum
}

/// What stands behind the check.
pub(crate) fn write(envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(envelope.body.len() / 2 + 256);
    out.push(u8::from(envelope.stream));
    out.extend_from_slice(&envelope.status.to_le_bytes());
    for number in [envelope.stored, envelope.ttl, envelope.cost].iter().chain(&envelope.stamp) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for text in &envelope.texts {
        let text = text.as_deref().filter(|text| text.len() < usize::from(ABSENT));
        let len = text.and_then(|text| u16::try_from(text.len()).ok()).unwrap_or(ABSENT);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    // One bit for each count that is there, and one for the usage as a whole.
    let counts = envelope.usage.unwrap_or_default();
    let bits = counts.iter().zip(0..).map(|(count, bit)| u8::from(count.is_some()) << bit);
    out.push(bits.fold(u8::from(envelope.usage.is_some()) << 5, |all, bit| all | bit));
    for count in counts.iter().flatten() {
        out.extend_from_slice(&count.to_le_bytes());
    }
    let len = u32::try_from(envelope.body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&lz4_flex::block::compress(&envelope.body));
    out
}

/// Reads what [`write`] wrote. Never panics, and takes no more memory than `body_max` and the texts.
///
/// # Errors
/// For anything that cannot be read, or whose body is larger.
pub(crate) fn read(inner: &[u8], body_max: usize) -> Result<Envelope, Corrupt> {
    let mut reader = Reader(inner);
    let stream = match reader.array()? {
        [0] => false,
        [1] => true,
        _ => return Err(Corrupt),
    };
    let status = u16::from_le_bytes(reader.array()?);
    let (stored, ttl, cost) = (reader.number()?, reader.number()?, reader.number()?);
    let stamp = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
    let mut texts = [const { None }; TEXTS];
    for text in &mut texts {
        *text = reader.text()?;
    }
    let usage = reader.usage()?;
    let len = usize::try_from(u32::from_le_bytes(reader.array()?)).map_err(|_| Corrupt)?;
    if len > body_max {
        return Err(Corrupt);
    }
    let body = lz4_flex::block::decompress(reader.0, len).map_err(|_| Corrupt)?;
    if body.len() != len {
        return Err(Corrupt);
    }
    Ok(Envelope { stream, status, stored, ttl, cost, stamp, texts, usage, body })
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Corrupt)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Corrupt> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<Option<String>, Corrupt> {
        let len = u16::from_le_bytes(self.array()?);
        if len == ABSENT {
            return Ok(None);
        }
        let (text, rest) = self.0.split_at_checked(usize::from(len)).ok_or(Corrupt)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| Corrupt)?;
        Ok(Some(text.to_owned()))
    }

    fn usage(&mut self) -> Result<Option<[Option<u64>; 5]>, Corrupt> {
        let [bits] = self.array()?;
        let mut counts = [None; 5];
        for (count, bit) in counts.iter_mut().zip(0..) {
            if bits >> bit & 1 == 1 {
                *count = Some(self.number()?);
            }
        }
        match bits >> 5 {
            0 if bits == 0 => Ok(None),
            1 => Ok(Some(counts)),
            _ => Err(Corrupt),
        }
    }
}

#[cfg(test)]
mod tests;
