//! Opens what a configuration is read from.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// How a file is opened.
pub(super) type Open = fn(&Path) -> io::Result<File>;

/// Opens a file at the start, when nobody is held up: who names a pipe waits for somebody who writes.
pub(super) fn patiently(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file while the sidecar runs. A pipe is refused as [`ErrorKind::Unsupported`]: to open one is to wait for somebody who
/// writes, for as long as that takes, and it cannot be read twice.
pub(super) fn at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(ErrorKind::Unsupported.into());
    }
    Ok(file)
}

/// Why something cannot be read.
pub(super) fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        ErrorKind::Unsupported => "it is a pipe".to_owned(),
        kind => kind.to_string(),
    }
}
