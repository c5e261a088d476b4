//! Least recently used, and nothing else: what a cache does that does not ask how often a page is wanted.

/// No page.
const NONE: u32 = u32::MAX;

/// The last pages that were asked for, a list in the order of their last use.
pub(crate) struct Lru {
    /// Neighbours of each page, the one used before and the one used after it; `None` for a page that is not kept.
    neighbours: Vec<Option<(u32, u32)>>,
    oldest: u32,
    newest: u32,
    kept: usize,
    capacity: usize,
}

impl Lru {
    pub(crate) fn new(pages: u32, capacity: usize) -> Self {
        Self {
            neighbours: vec![None; pages as usize],
            oldest: NONE,
            newest: NONE,
            kept: 0,
            capacity,
        }
    }

    /// Asks for a page. Whether it was kept; now it is.
    pub(crate) fn ask(&mut self, page: u32) -> bool {
        let had = self.take(page);
        if !had && self.kept == self.capacity {
            self.take(self.oldest);
        }
        self.neighbours[page as usize] = Some((self.newest, NONE));
        match self.neighbours.get_mut(self.newest as usize) {
            Some(Some((_, after))) => *after = page,
            _ => self.oldest = page,
        }
        self.newest = page;
        self.kept += 1;
        had
    }

    fn take(&mut self, page: u32) -> bool {
        let Some((before, after)) = self.neighbours[page as usize].take() else {
            return false;
        };
        match self.neighbours.get_mut(before as usize) {
            Some(Some((_, next))) => *next = after,
            _ => self.oldest = after,
        }
        match self.neighbours.get_mut(after as usize) {
            Some(Some((previous, _))) => *previous = before,
            _ => self.newest = before,
        }
        self.kept -= 1;
        true
    }
}
