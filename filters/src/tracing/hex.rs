//! Hexadecimal ids, read and written without the formatting machinery.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of a lower-case digit. Upper case is refused: W3C Trace Context (section 3.2) and B3 both say so.
pub(super) fn lower(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The value of a digit of either case, as Jaeger's format has it.
pub(super) fn either(digit: u8) -> Option<u8> {
    lower(digit.to_ascii_lowercase())
}

/// A number of at most 32 digits, each read by `digit`; `None` for an empty text.
pub(super) fn read(text: &[u8], digit: fn(u8) -> Option<u8>) -> Option<u128> {
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    text.iter()
        .try_fold(0_u128, |number, &byte| Some(number << 4 | u128::from(digit(byte)?)))
}

/// Writes each byte as two lower-case digits. `out` has room for them.
pub(super) fn write(bytes: &[u8], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        if let [high, low] = pair {
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
        }
    }
}

/// A text of bounded length on the stack.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Adds `len` bytes, written by `fill`. What does not fit is left out; the formats' lengths are fixed, so it fits.
    fn grow(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + len) {
            fill(room);
            self.len += len;
        }
    }

    pub(super) fn push(&mut self, text: &[u8]) -> &mut Self {
        self.grow(text.len(), |room| room.copy_from_slice(text));
        self
    }

    pub(super) fn push_hex(&mut self, bytes: &[u8]) -> &mut Self {
        self.grow(bytes.len() * 2, |room| write(bytes, room));
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        for number in [0, 1, 0xdead_beef, u128::MAX] {
            let mut text = [0; 32];
            write(&number.to_be_bytes(), &mut text);
            assert_eq!(read(&text, lower), Some(number));
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "g", " 1", "-1", "0x1", "000000000000000000000000000000001"] {
            assert_eq!(read(text.as_bytes(), either), None, "{text:?}");
        }
        assert_eq!(read(b"AB", lower), None);
        assert_eq!(read(b"AB", either), Some(0xab));
    }

    #[test]
    fn a_text_never_outgrows_its_room() {
        let mut text = Text::<4>::new();
        text.push(b"ab").push_hex(&[1, 2]).push(b"c");
        assert_eq!(text.as_bytes(), b"abc");
    }
}
