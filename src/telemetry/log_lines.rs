//! Writes access-log lines, from a bounded queue and a thread of its own.
//!
//! Standard output may be a pipe that nobody reads, a full disk or closed. None of it may hold up or fail a request: lines
//! that find no room in the queue, or cannot be written, are dropped and counted. Lines leave in large writes: the thread
//! wakes for the first line after a pause, gathers for a moment, and writes all there is.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use pillion_filters::{LineSink, Metrics};
use prometheus::IntCounter;

use super::TelemetryError;
use super::doorbell::Doorbell;

/// Lines that may wait: about 4 MiB of them.
const QUEUE: usize = 8192;
/// So many do not wait any longer.
const BATCH: usize = 1024;
/// How long a line waits at most while all goes well.
const GATHER: Duration = Duration::from_millis(100);
/// A write has this size, or that of one longer line.
const CHUNK: usize = 64 * 1024;
/// Between two tries to write to what is not ready.
const RETRY: Duration = Duration::from_millis(10);

/// Lines on their way out.
pub struct LineWriter {
    lines: ArrayQueue<Vec<u8>>,
    doorbell: Doorbell,
    /// Known before anybody has the writer.
    thread: OnceLock<Thread>,
    stopping: AtomicBool,
    dropped: IntCounter,
}

impl LineSink for LineWriter {
    fn line(&self, line: Vec<u8>) {
        if self.lines.push(line).is_err() {
            self.dropped.inc();
        } else if self.doorbell.rings(|| self.lines.len() >= BATCH) {
            self.wake();
        }
    }
}

impl LineWriter {
    /// Starts the thread that writes to `out`, usually standard output.
    pub fn start(
        out: Box<dyn Write + Send>,
        metrics: &Metrics,
    ) -> Result<(Arc<Self>, LineWriterHandle), TelemetryError> {
        const THREAD: &str = "access-log";
        let name = "pillion_access_log_lines_dropped_total";
        let dropped = metrics.family(name, || {
            IntCounter::new(name, "Access-log lines that found no room or could not be written.")
        });
        let writer = Arc::new(Self {
            lines: ArrayQueue::new(QUEUE),
            doorbell: Doorbell::default(),
            thread: OnceLock::new(),
            stopping: AtomicBool::new(false),
            dropped: dropped.ok_or_else(|| TelemetryError::Metric(name.to_owned()))?,
        });
        let (finished, done) = mpsc::channel();
        let of_thread = writer.clone();
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            of_thread.run(out);
            let _ = finished.send(());
        });
        let thread = thread.map_err(|error| TelemetryError::Thread(THREAD, error))?;
        let _ = writer.thread.set(thread.thread().clone());
        let handle = LineWriterHandle {
            writer: writer.clone(),
            done,
        };
        Ok((writer, handle))
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, mut out: Box<dyn Write + Send>) {
        let mut chunk = Vec::new();
        loop {
            self.gathered();
            self.doorbell.awake();
            while let Some(lines) = self.take(&mut chunk) {
                if self.write(&mut *out, &chunk).is_err() {
                    self.dropped.inc_by(lines);
                }
            }
            if self.stopping.load(Ordering::SeqCst) {
                break;
            }
        }
        // The last word; where it fails there is nobody left to tell.
        let _ = out.flush();
    }

    /// Sleeps until there is something worth writing.
    fn gathered(&self) {
        let stopping = || self.stopping.load(Ordering::SeqCst);
        loop {
            self.doorbell.idle();
            if !self.lines.is_empty() || stopping() {
                break;
            }
            std::thread::park();
        }
        self.doorbell.gather();
        if self.lines.len() < BATCH && !stopping() {
            std::thread::park_timeout(GATHER);
        }
    }

    /// Fills the chunk and says with how many lines; `None` when there are none.
    fn take(&self, chunk: &mut Vec<u8>) -> Option<u64> {
        chunk.clear();
        let mut lines = 0;
        while chunk.len() < CHUNK {
            let Some(line) = self.lines.pop() else { break };
            chunk.extend_from_slice(&line);
            lines += 1;
        }
        (lines > 0).then_some(lines)
    }

    fn write(&self, out: &mut dyn Write, mut chunk: &[u8]) -> std::io::Result<()> {
        while !chunk.is_empty() {
            match out.write(chunk) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => chunk = chunk.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the pipe may have made it so. Half a line must not be left behind.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.stopping.load(Ordering::SeqCst) => {
                    std::thread::park_timeout(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
        out.flush()
    }
}

/// The writer's thread.
pub struct LineWriterHandle {
    writer: Arc<LineWriter>,
    done: mpsc::Receiver<()>,
}

impl LineWriterHandle {
    /// Writes what is queued and ends, within that time. Blocks. A write that hangs is left to itself.
    pub fn shutdown(self, within: Duration) {
        self.stop();
        let _ = self.done.recv_timeout(within);
    }

    fn stop(&self) {
        self.writer.stopping.store(true, Ordering::SeqCst);
        self.writer.wake();
    }
}

impl Drop for LineWriterHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Condvar, Mutex};

    use super::*;

    const ENOUGH: Duration = Duration::from_secs(10);

    /// What was written, how often, and what each write is answered with.
    #[derive(Default)]
    struct Paper {
        text: Mutex<(Vec<u8>, usize)>,
        changed: Condvar,
        answers: Mutex<Vec<io::Result<usize>>>,
    }

    #[derive(Clone, Default)]
    struct Out(Arc<Paper>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let answer = self.0.answers.lock().unwrap().pop();
            let written = answer.unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            let mut text = self.0.text.lock().unwrap();
            text.0.extend_from_slice(&bytes[..written]);
            text.1 += 1;
            self.0.changed.notify_all();
            Ok(written)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(out: &Out) -> (Arc<LineWriter>, LineWriterHandle) {
        LineWriter::start(Box::new(out.clone()), &Metrics::default()).unwrap()
    }

    #[test]
    fn lines_leave_in_order_and_in_large_writes() {
        let out = Out::default();
        let (writer, handle) = start(&out);
        let expected = (0..500).map(|line| line.to_string() + "\n").collect::<String>();
        for line in expected.split_inclusive('\n') {
            writer.line(line.as_bytes().to_vec());
        }
        handle.shutdown(ENOUGH);
        let text = out.0.text.lock().unwrap();
        assert_eq!(text.0, expected.as_bytes());
        assert!(text.1 <= 3, "{} writes", text.1);
        assert_eq!(writer.dropped.get(), 0);
    }

    #[test]
    fn a_line_is_written_without_a_stop() {
        let out = Out::default();
        let (writer, _handle) = start(&out);
        writer.line(b"hello\n".to_vec());
        let text = out.0.text.lock().unwrap();
        let (text, _) = out
            .0
            .changed
            .wait_timeout_while(text, ENOUGH, |text| text.0.is_empty())
            .unwrap();
        assert_eq!(text.0, b"hello\n");
    }

    #[test]
    fn a_failing_output_costs_lines_not_requests() {
        let out = Out::default();
        out.0.answers.lock().unwrap().push(Err(ErrorKind::BrokenPipe.into()));
        let (writer, handle) = start(&out);
        (0..3).for_each(|_| writer.line(b"lost\n".to_vec()));
        handle.shutdown(ENOUGH);
        assert_eq!(writer.dropped.get(), 3);
        assert!(out.0.text.lock().unwrap().0.is_empty());
    }

    #[test]
    fn short_and_interrupted_writes_are_gone_on_with() {
        let out = Out::default();
        let (writer, handle) = start(&out);
        let unready = || Err(ErrorKind::WouldBlock.into());
        *out.0.answers.lock().unwrap() = vec![Ok(2), unready(), Err(ErrorKind::Interrupted.into()), Ok(1)];
        writer.line(b"hello\n".to_vec());
        let text = out.0.text.lock().unwrap();
        let whole = |text: &mut (Vec<u8>, usize)| text.0.len() < 6;
        let (text, _) = out.0.changed.wait_timeout_while(text, ENOUGH, whole).unwrap();
        assert_eq!(text.0, b"hello\n");
        drop(text);
        handle.shutdown(ENOUGH);
        assert_eq!(writer.dropped.get(), 0);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let out = Out::default();
        // The thread hangs in its first write until the end of the test.
        let hold = out.0.text.lock().unwrap();
        let (writer, handle) = start(&out);
        for _ in 0..2 * QUEUE + CHUNK {
            writer.line(b"1\n".to_vec());
        }
        let dropped = writer.dropped.get();
        assert!(dropped >= QUEUE as u64, "{dropped}");
        drop(hold);
        handle.shutdown(ENOUGH);
        let written = out.0.text.lock().unwrap().0.len() as u64 / 2;
        assert_eq!(written + dropped, (2 * QUEUE + CHUNK) as u64);
    }
}
