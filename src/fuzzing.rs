//! What `fuzz/` reaches into; compiled for it alone.

use crate::strict::{Chunks, Flaw, Kind, Scanner};

/// A head that was let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to the end of the empty line.
    pub length: usize,
    /// Whether a chunked body follows.
    pub chunked: bool,
}

/// Whose head it is.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// A client's.
    Request,
    /// An app's.
    Response,
}

/// Looks at a head that comes in these pieces: it passes, is not over yet, or is refused.
pub fn head<'a>(whose: Whose, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Head>, String> {
    let mut scanner = Scanner::new(match whose {
        Whose::Request => Kind::Request,
        Whose::Response => Kind::Response,
    });
    let length = feed(pieces, |piece| scanner.feed(piece))?;
    Ok(length.map(|length| Head {
        length,
        chunked: scanner.is_chunked(),
    }))
}

/// Looks at a chunked body that comes in these pieces. Gives its length with all that frames it, once it is over.
pub fn chunks<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<usize>, String> {
    let mut chunks = Chunks::new();
    feed(pieces, |piece| chunks.feed(piece))
}

fn feed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut look: impl FnMut(&'a [u8]) -> Result<Option<usize>, Flaw>,
) -> Result<Option<usize>, String> {
    let mut before = 0;
    for piece in pieces {
        if let Some(end) = look(piece).map_err(|flaw| format!("{flaw:?}"))? {
            return Ok(Some(before + end));
        }
        before += piece.len();
    }
    Ok(None)
}
