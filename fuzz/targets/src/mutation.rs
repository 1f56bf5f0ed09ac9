//! Deterministic mutations of seeds, independent of the format of the bytes, like libFuzzer's first mutations.

/// Byte sequences that are difficult for parsers.
const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\t",
    b"\\",
    b"\"",
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"=",
    b"-",
    b"..",
    b"null",
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551615",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\\u0000",
    b"1e999",
];

/// Length limit of an input. Longer inputs would find no more, as no target reads beyond its input.
const MAX_LENGTH: usize = 8 * 1024;

/// An endless iterator of mutations.
#[derive(Debug)]
pub struct Mutations {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Mutations {
    /// Returns mutations of `seeds`.
    #[must_use]
    pub fn of(seeds: Vec<Vec<u8>>) -> Self {
        // State of Marsaglia's xorshift generator, which must not be 0.
        Self { seeds, state: 88_172_645_463_325_252 }
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let number = usize::try_from(self.state >> 33).unwrap_or(0);
        number.checked_rem(end).unwrap_or(0)
    }

    /// Returns a part of one of the seeds.
    fn part(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        let length = self.seeds[index].len();
        let from = self.below(length);
        let to = from + self.below(length - from + 1).min(64);
        self.seeds[index][from..to].to_vec()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(32) + 1);
        match self.below(8) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.state >> 60 & 7);
                }
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 => {
                let piece = PIECES[self.below(PIECES.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            5 => {
                let piece = PIECES[self.below(PIECES.len())];
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
            6 => {
                let part = self.part();
                drop(bytes.splice(at..end, part));
            }
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
}

impl Iterator for Mutations {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let index = self.below(self.seeds.len());
        let mut bytes = self.seeds.get(index)?.clone();
        // Make few changes in most cases: heavily changed bytes are refused at the first byte.
        for _ in 0..=self.below(4) * self.below(3) {
            self.change(&mut bytes);
        }
        bytes.truncate(MAX_LENGTH);
        Some(bytes)
    }
}
