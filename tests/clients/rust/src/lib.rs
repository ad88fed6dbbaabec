//! How the tests speak with a client: what to open is in its arguments, it says what it did on
//! its output, and the end of its input asks it to close what it opened.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use tokio::io::AsyncReadExt as _;

/// What to open.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub addr: Ipv4Addr,
    /// Or UDP.
    pub is_tcp: bool,
    pub port: u16,
}

impl Wish {
    /// Reads `ADDR tcp|udp PORT` and returns what follows.
    ///
    /// # Errors
    /// When that is not what the arguments are.
    pub fn read() -> Result<(Self, Vec<String>)> {
        let mut args = std::env::args().skip(1);
        let mut next = || args.next().context("ADDR tcp|udp PORT");
        let wish = Self {
            addr: next()?.parse()?,
            is_tcp: next()? == "tcp",
            port: next()?.parse()?,
        };
        Ok((wish, args.collect()))
    }
}

/// Waits until the test asks to close.
///
/// # Errors
/// When the input cannot be read.
pub async fn until_asked_to_close() -> Result<()> {
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
