//! The terminal while `top` runs: the alternate screen, keys without Enter, and all as it was afterwards.

use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Sender;

use super::table::{Frame, Sort, Style};

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What is taken where a terminal does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

/// What somebody at the terminal wants.
pub(super) enum Event {
    Leave,
    Resized,
    Sort(Sort),
}

pub(super) struct Screen {
    out: io::Stdout,
    /// The modes to go back to; none where nobody can type.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal until it is dropped.
    pub(super) fn open(events: Sender<Event>) -> io::Result<Self> {
        listen(&events)?;
        let before = tcgetattr(io::stdin()).ok();
        let mut screen = Self {
            out: io::stdout(),
            before,
        };
        if let Some(before) = &screen.before {
            let mut raw = before.clone();
            // Ctrl-C and Ctrl-Z come as bytes: a process that is stopped here would leave the terminal as it is.
            raw.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            raw.special_codes[SpecialCodeIndex::VMIN] = 1;
            raw.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
            read_keys(events)?;
        }
        screen.out.write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    pub(super) fn show(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let (width, height) = size();
        // From the top, each line cleared behind its end: the screen never flickers.
        let mut text = String::from("\x1b[H");
        let lines = frame.lines(Some((width, height)));
        for (index, line) in lines.iter().take(height).enumerate() {
            if index > 0 {
                text.push_str("\r\n");
            }
            let code = match line.style {
                Style::Plain => "",
                Style::Heading => "\x1b[1m",
                Style::Wrong => "\x1b[31m",
                Style::Faint => "\x1b[2m",
            };
            text.push_str(code);
            text.push_str(&super::format::cut(&line.text, width));
            text.push_str("\x1b[0m\x1b[K");
        }
        text.push_str("\x1b[J");
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell of an error.
        let _ = self.out.write_all(LEAVE.as_bytes());
        let _ = self.out.flush();
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// Hears signals: an end that is asked for from outside leaves the terminal as it was, too.
fn listen(events: &Sender<Event>) -> io::Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    for end in &mut ends {
        if let Err(error) = end {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
    }
    for mut end in ends.into_iter().flatten() {
        let events = events.clone();
        tokio::spawn(async move {
            end.recv().await;
            let _ = events.send(Event::Leave).await;
        });
    }
    let events = events.clone();
    tokio::spawn(async move { while resized.recv().await.is_some() && events.send(Event::Resized).await.is_ok() {} });
    Ok(())
}

/// Reads keys on a thread of its own, which ends with the process.
fn read_keys(events: Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let mut key = [0];
        while io::stdin().read(&mut key).is_ok_and(|read| read == 1) {
            let event = match key[0] {
                // Ctrl-C is 3.
                b'q' | b'Q' | 3 => Event::Leave,
                b'r' => Event::Sort(Sort::Rate),
                b'e' => Event::Sort(Sort::Errors),
                b'p' => Event::Sort(Sort::P95),
                _ => continue,
            };
            if events.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
