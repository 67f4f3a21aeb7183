//! The recitation: a text that a test can compute, so that a lost, doubled or reordered piece shows.
//!
//! Word `i` is two of 70 syllables (`baba babe babi babo babu bada ...`), each of the 4,900 words once,
//! then from the start again. The tiny models of the conformance tests recite the same words.

const CONSONANTS: &[u8; 14] = b"bdfgklmnprstvz";
const VOWELS: &[u8; 5] = b"aeiou";

/// How many different syllables there are.
const SYLLABLES: usize = CONSONANTS.len() * VOWELS.len();

/// How many different words there are; word `WORDS` is word 0 again.
pub const WORDS: usize = SYLLABLES * SYLLABLES;

/// The `i`-th word of the recitation, without a leading space.
#[must_use]
pub fn word(i: usize) -> String {
    let i = i % WORDS;
    let mut word = String::with_capacity(4);
    for syllable in [i / SYLLABLES, i % SYLLABLES] {
        word.push(char::from(CONSONANTS[syllable / VOWELS.len()]));
        word.push(char::from(VOWELS[syllable % VOWELS.len()]));
    }
    word
}

/// The position of a word in the recitation; `None` for anything that is not one of its words.
#[must_use]
pub fn index_of(word: &str) -> Option<usize> {
    let &[c1, v1, c2, v2] = word.as_bytes() else { return None };
    let syllable = |c: u8, v: u8| {
        let c = CONSONANTS.iter().position(|&x| x == c)?;
        let v = VOWELS.iter().position(|&x| x == v)?;
        Some(c * VOWELS.len() + v)
    };
    Some(syllable(c1, v1)? * SYLLABLES + syllable(c2, v2)?)
}

/// Words `start .. start + count`, joined by single spaces: the whole answer of a model.
#[must_use]
pub fn recitation(start: usize, count: usize) -> String {
    let words: Vec<String> = (start..start + count).map(word).collect();
    words.join(" ")
}

/// What a received text is, held against the recitation from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first so many words, in order, each once.
    Exact(usize),
    /// The word at this position came although an earlier one was due: something was doubled.
    Doubled(usize),
    /// The word at this position came although a later one was due: something was lost.
    Lost(usize),
    /// The piece at this position is no word of the recitation: something was cut or mixed.
    Garbled(usize),
}

/// Holds a received text against the recitation that begins at word `start`.
#[must_use]
pub fn verify(start: usize, text: &str) -> Verdict {
    let mut count = 0;
    for got in text.split_whitespace() {
        let due = (start + count) % WORDS;
        match index_of(got) {
            Some(i) if i == due => count += 1,
            Some(i) if i < due => return Verdict::Doubled(count),
            Some(_) => return Verdict::Lost(count),
            None => return Verdict::Garbled(count),
        }
    }
    Verdict::Exact(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_tiny_models() {
        assert_eq!(
            recitation(0, 12),
            "baba babe babi babo babu bada bade badi bado badu bafa bafe"
        );
        assert_eq!(word(WORDS), "baba");
        assert_eq!(word(WORDS - 1), "zuzu");
    }

    #[test]
    fn every_word_has_its_own_index() {
        for i in 0..WORDS {
            assert_eq!(index_of(&word(i)), Some(i));
        }
        assert_eq!(index_of("bab"), None);
        assert_eq!(index_of("babax"), None);
        assert_eq!(index_of("hello"), None);
    }

    #[test]
    fn verify_names_the_damage() {
        assert_eq!(verify(0, "baba babe babi"), Verdict::Exact(3));
        assert_eq!(verify(1, " babe babi"), Verdict::Exact(2));
        assert_eq!(verify(0, ""), Verdict::Exact(0));
        assert_eq!(verify(0, "baba babi"), Verdict::Lost(1));
        assert_eq!(verify(0, "baba babe babe babi"), Verdict::Doubled(2));
        assert_eq!(verify(0, "baba ba"), Verdict::Garbled(1));
    }
}
