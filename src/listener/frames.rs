//! Counts the frames of an HTTP/2 connection that cost the receiver more than the sender.
//!
//! The `h2` crate answers every PING and SETTINGS for as long as they come (RFC 9113, section 10.5, leaves it to the receiver to
//! see a flood in them). They, and other frames that move nothing, draw on a budget which fills up with time and with what a
//! client does for a living: requests, bodies, and reading what it is sent.

use std::time::Instant;

/// Frames that move nothing, at once.
const BURST: u32 = 1000;
/// The same, in a second.
const PER_SECOND: u32 = 100;
/// What a request adds: connections that carry many have more to say.
const PER_REQUEST: u32 = 4;
/// Bytes sent to the client that make up for one frame, such as the window update it answers with.
const BYTES_A_FRAME: u64 = 1024;

const HEADER: usize = 9;
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The frames of one connection, as they come.
#[derive(Debug)]
pub(super) struct FrameMeter {
    /// The beginning of a frame header.
    partial: [u8; HEADER],
    have: usize,
    /// Bytes until the next frame header.
    skip: usize,
    budget: u32,
    filled: Instant,
    /// Bytes that had been sent when the budget was filled last.
    sent: u64,
}

impl FrameMeter {
    /// A connection before its preface.
    pub(super) fn new() -> Self {
        Self {
            partial: [0; HEADER],
            have: 0,
            skip: PREFACE,
            budget: BURST,
            filled: Instant::now(),
            sent: 0,
        }
    }

    /// Looks at what came; `sent` is how much the client was sent so far. False once it is a flood.
    pub(super) fn feed(&mut self, mut bytes: &[u8], sent: u64) -> bool {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (HEADER - self.have).min(bytes.len());
            let (header, rest) = bytes.split_at(wanted);
            if let Some(place) = self.partial.get_mut(self.have..self.have + wanted) {
                place.copy_from_slice(header);
            }
            self.have += wanted;
            bytes = rest;
            if self.have < HEADER {
                return true;
            }
            self.have = 0;
            let [a, b, c, kind, ..] = self.partial;
            let length = u32::from_be_bytes([0, a, b, c]);
            self.skip = length as usize;
            if !self.allows(kind, length, sent) {
                return false;
            }
        }
    }

    fn allows(&mut self, kind: u8, length: u32, sent: u64) -> bool {
        match kind {
            HEADERS => self.fill(PER_REQUEST),
            DATA if length > 0 => self.fill(1),
            // `h2` bounds these by the size of the fields.
            CONTINUATION => {}
            _ => {
                if self.budget == 0 {
                    self.fill_up(sent);
                }
                match self.budget.checked_sub(1) {
                    Some(left) => self.budget = left,
                    None => return false,
                }
            }
        }
        true
    }

    fn fill(&mut self, frames: u32) {
        self.budget = self.budget.saturating_add(frames).min(BURST);
    }

    /// Adds what time and reading have earned since the last look.
    fn fill_up(&mut self, sent: u64) {
        let earned = self.filled.elapsed().as_millis() * u128::from(PER_SECOND) / 1000;
        if earned > 0 {
            self.filled = Instant::now();
            self.fill(earned.min(u128::from(BURST)) as u32);
        }
        let read = (sent - self.sent) / BYTES_A_FRAME;
        self.sent += read * BYTES_A_FRAME;
        self.fill(read.min(u64::from(BURST)) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.extend(vec![0xff; length]);
        frame
    }

    fn meter() -> FrameMeter {
        let mut meter = FrameMeter::new();
        assert!(meter.feed(&[0xff; PREFACE], 0));
        meter
    }

    #[test]
    fn a_flood_is_seen_wherever_it_is_cut() {
        for size in [1, 2, 7, 17, 1000] {
            let mut meter = meter();
            let flood = frame(6, 8).repeat(2 * BURST as usize);
            assert!(!flood.chunks(size).all(|piece| meter.feed(piece, 0)), "{size}");
            let mut meter = self::meter();
            let few = frame(6, 8).repeat(BURST as usize / 2);
            assert!(few.chunks(size).all(|piece| meter.feed(piece, 0)), "{size}");
        }
    }

    #[test]
    fn who_asks_and_reads_may_say_more() {
        let mut asking = meter();
        let exchange = [frame(HEADERS, 20), frame(6, 8), frame(8, 4), frame(DATA, 5)].concat();
        assert!(asking.feed(&exchange.repeat(10 * BURST as usize), 0));
        let mut reading = meter();
        for sent in 0..20 * u64::from(BURST) {
            assert!(reading.feed(&frame(8, 4), sent * BYTES_A_FRAME));
        }
        let mut empty = meter();
        assert!(!empty.feed(&frame(DATA, 0).repeat(2 * BURST as usize), 0));
    }
}
