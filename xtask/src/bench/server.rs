//! A server as a process of its own, ready to be asked, ended when it is dropped.
//!
//! Where:  `bench serve` and `bench load`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::client;

/// Until a server has loaded its model.
const LOADING: Duration = Duration::from_secs(120);

/// A running server.
pub(crate) struct Running {
    child: Child,
    pub address: SocketAddr,
}

impl Running {
    /// `wootz serve` with further arguments; it says itself where it listens.
    pub fn wootz(command: &mut Command) -> Result<Self> {
        command.args(["--port", "0", "--json"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a piped output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| {
            let _ended = child.kill();
            format!("`wootz serve` said `{}`", line.trim())
        })?;
        let address = told["address"].as_str().and_then(|address| address.strip_prefix("http://"));
        let address = address.context("`wootz serve` told no address")?.parse()?;
        Ok(Self { child, address })
    }

    /// A server that is told its port and says when it is ready at `/health`.
    pub fn told_its_port(command: &mut Command) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut running = Self { child, address };
        let begun = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait()? {
                bail!("the server ended with {status} before it was ready");
            }
            if client::ask(address, "GET", "/health", "").is_ok_and(|answer| answer.status == 200) {
                return Ok(running);
            }
            if begun.elapsed() > LOADING {
                bail!("the server was not ready after {} s", LOADING.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash would.
    pub fn crash(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either then.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
