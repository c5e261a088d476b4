//! What a process and its successor say to each other, and how open sockets get from one to the other.
//!
//! A pair of Unix sockets that keeps messages apart (`SOCK_SEQPACKET`); the successor's end is its standard input, so there
//! is no name anybody else could connect to and no number to agree on. The messages are words, with sockets attached:
//!
//! | who | says | attached |
//! | --- | --- | --- |
//! | the old process | `listening ROLE ADDRESS` | sockets of that address; repeated when there are many |
//! | the old process | `all` | |
//! | the successor | `ready` | |
//!
//! A message that is not known is skipped, since the other end may be of another version.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::sockets::{Heritage, Listening, Role};

/// Sockets in one message; Linux takes 253.
const AT_ONCE: usize = 128;
/// Bytes of one message: a host name has 253 at most.
const LONGEST: usize = 1024;
/// Holds the process id of the one who hands over. That it is the parent's tells it from one that was merely inherited.
const PREDECESSOR: &str = "PILLION_PREDECESSOR";

/// One end.
pub(super) struct Channel(OwnedFd);

/// What came from the other end.
pub(super) enum Message {
    Listening(Listening),
    All,
    Ready,
    Unknown,
}

impl Channel {
    /// This process's end, and the variable and standard input that make a child its successor.
    pub(super) fn open() -> io::Result<(Self, (&'static str, String), OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), (PREDECESSOR, std::process::id().to_string()), theirs))
    }

    /// Says where this process listens, sockets attached.
    pub(super) fn hand_over(&self, listening: &[Listening]) -> io::Result<()> {
        for one in listening {
            let text = format!("listening {} {}", one.role.name(), one.address);
            for some in one.sockets.chunks(AT_ONCE) {
                self.send(&text, some)?;
            }
        }
        self.send("all", &[])
    }

    fn send(&self, text: &str, sockets: &[TcpListener]) -> io::Result<()> {
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Room is there for far more than is ever sent, so a full channel is one that nobody reads.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut attached, flags)?;
        Ok(())
    }

    /// The next message; none when the other end is closed.
    pub(super) fn receive(&self, flags: RecvFlags) -> io::Result<Option<Message>> {
        let mut text = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut attached, flags)?;
        let mut sockets = Vec::new();
        for message in attached.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors.map(TcpListener::from));
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message was cut, or a socket not let in",
            ));
        }
        let text = String::from_utf8_lossy(text.get(..received.bytes).unwrap_or_default());
        Ok((!text.is_empty()).then(|| Message::read(&text, sockets)))
    }
}

impl Message {
    fn read(text: &str, sockets: Vec<TcpListener>) -> Self {
        let mut words = text.splitn(3, ' ');
        match (words.next(), words.next().and_then(Role::named), words.next()) {
            (Some("listening"), Some(role), Some(address)) => Self::Listening(Listening {
                role,
                address: address.to_owned(),
                sockets,
            }),
            (Some("all"), ..) => Self::All,
            (Some("ready"), ..) => Self::Ready,
            _ => Self::Unknown,
        }
    }
}

/// The process that started this one to take its place.
pub struct Predecessor(Channel);

impl Predecessor {
    /// Whether there is one.
    pub fn find() -> io::Result<Option<Self>> {
        let parent = std::os::unix::process::parent_id().to_string();
        if std::env::var_os(PREDECESSOR).is_none_or(|id| id != *parent) {
            return Ok(None);
        }
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        // The old process learns of this one's end by the last of these being closed.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Some(Self(Channel(channel))))
    }

    /// Its listening sockets.
    pub(super) fn heritage(&self) -> io::Result<Heritage> {
        let mut heritage = Heritage::default();
        loop {
            match self.0.receive(RecvFlags::empty())? {
                Some(Message::Listening(one)) => heritage.add(one),
                Some(Message::All) => return Ok(heritage),
                Some(Message::Ready | Message::Unknown) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Tells it that this process serves, so that it may go.
    pub fn relieve(self) -> io::Result<()> {
        self.0.send("ready", &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(sockets: usize) -> Listening {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Listening {
            role: Role::Outbound,
            address: "localhost:0".to_owned(),
            sockets: (0..sockets).map(|_| socket.try_clone().unwrap()).collect(),
        }
    }

    #[test]
    fn sockets_arrive_under_their_address_however_many_there_are() {
        let old = [listening(1), listening(AT_ONCE + 1)];
        let (channel, _, theirs) = Channel::open().unwrap();
        channel.hand_over(&old[1..]).unwrap();
        channel.hand_over(&old[..1]).unwrap();
        let successor = Predecessor(Channel(theirs));
        for old in [&old[1], &old[0]] {
            let heritage = successor.heritage().unwrap();
            let [new] = &heritage.0[..] else {
                panic!("{}", heritage.0.len())
            };
            assert_eq!((new.role, &new.address), (old.role, &old.address));
            assert_eq!(new.sockets.len(), old.sockets.len());
            assert_eq!(new.bound().unwrap(), old.bound().unwrap());
        }
    }

    #[test]
    fn what_a_later_version_says_is_skipped() {
        let (channel, _, theirs) = Channel::open().unwrap();
        for text in ["moon phase", "listening moon 1", "listening"] {
            channel.send(text, &listening(1).sockets).unwrap();
        }
        channel.hand_over(&[listening(1)]).unwrap();
        assert_eq!(Predecessor(Channel(theirs)).heritage().unwrap().0.len(), 1);
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (channel, _, theirs) = Channel::open().unwrap();
        drop(theirs);
        assert!(channel.receive(RecvFlags::DONTWAIT).unwrap().is_none());
        assert!(channel.hand_over(&[]).is_err());
        let (channel, _, theirs) = Channel::open().unwrap();
        drop(channel);
        assert!(Predecessor(Channel(theirs)).heritage().is_err());
    }
}
