//! What the endpoints do: connections, streams, floods; and the proof that bytes arrive right.

pub mod conn;
pub mod rr;
pub mod tcp;
pub mod udp;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::site::{Family, Site};
use crate::support::inside;

/// The one port that is open, for TCP and UDP.
pub const PORT: u16 = 5001;

/// Connects the client to the server; the server's end is the second. It is checked that the
/// server sees an address of the family that it should see.
pub fn connect(site: &Site, port: u16) -> Result<(TcpStream, TcpStream)> {
    let listener = listener(site, port)?;
    let client = inside(&site.client, || connect_to(site.target(port)))?;
    let (server, from) = listener.accept()?;
    ensure!(
        Family::of(from.ip()) == site.seen_as,
        "the server sees {from}"
    );
    Ok((client, server))
}

fn listener(site: &Site, port: u16) -> Result<TcpListener> {
    inside(&site.server, || Ok(TcpListener::bind(site.listen(port))?))
}

fn connect_to(target: SocketAddr) -> Result<TcpStream> {
    Ok(TcpStream::connect_timeout(&target, PATIENCE)?)
}

/// Sends known bytes both ways at once, and datagrams of several sizes there and back.
pub fn verify(site: &Site) -> Result<()> {
    let (client, server) = connect(site, PORT)?;
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| send_known(&client, 1)),
            scope.spawn(|| send_known(&server, 2)),
            scope.spawn(|| expect_known(&client, 2)),
            scope.spawn(|| expect_known(&server, 1)),
        ];
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        anyhow::Ok(())
    })?;
    datagrams(site)
}

fn send_known(mut stream: &TcpStream, seed: u64) -> Result<()> {
    let mut known = Known(seed);
    let mut chunk = [0; CHUNK];
    for _ in 0..CHUNKS {
        known.fill(&mut chunk);
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn expect_known(mut stream: &TcpStream, seed: u64) -> Result<()> {
    let mut known = Known(seed);
    let (mut wanted, mut got) = ([0; CHUNK], [0; CHUNK]);
    stream.set_read_timeout(Some(PATIENCE))?;
    for chunk in 0..CHUNKS {
        known.fill(&mut wanted);
        stream.read_exact(&mut got)?;
        ensure!(wanted == got, "TCP: other bytes in chunk {chunk}");
    }
    ensure!(
        stream.read(&mut got)? == 0,
        "TCP: more bytes than were sent"
    );
    Ok(())
}

fn datagrams(site: &Site) -> Result<()> {
    let server = inside(&site.server, || Ok(UdpSocket::bind(site.listen(PORT))?))?;
    let client = inside(&site.client, || {
        let target = site.target(PORT);
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        Ok(socket)
    })?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut known = Known(3);
    let mut got = [0; 2000];
    for size in [1, 64, 533, 1200, 1452] {
        let mut wanted = vec![0; size];
        known.fill(&mut wanted);
        client.send(&wanted)?;
        let (len, from) = server.recv_from(&mut got)?;
        ensure!(got.get(..len) == Some(&wanted), "UDP: other bytes arrive");
        ensure!(
            Family::of(from.ip()) == site.seen_as,
            "the server sees {from}"
        );
        server.send_to(&wanted, from)?;
        let len = client.recv(&mut got)?;
        ensure!(got.get(..len) == Some(&wanted), "UDP: other bytes return");
    }
    Ok(())
}

/// Bytes that both ends know (xorshift).
struct Known(u64);

impl Known {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            for (byte, known) in chunk.iter_mut().zip(self.0.to_le_bytes()) {
                *byte = known;
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(3);

const CHUNK: usize = 64 * 1024;

/// 16 MiB each way.
const CHUNKS: usize = 256;
