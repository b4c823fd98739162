//! The Hub: where it is, who we are to it, and what a repository holds.
//!
//! Where:  made by the command line, which reads `HF_ENDPOINT`, `HF_TOKEN` and proxies; used by [`pull`](crate::pull).
//! Idea:   one value holds connections, token and the wish to stop; every request of a pull goes through it.
//! Source: the Hub's HTTP API, `/api/models/{repo}/revision/{revision}` and `/{repo}/resolve/{revision}/{path}`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::digest::Digest;
use crate::error::{Error, Result, printable};
use crate::http::{Client, wire};
use crate::name::ModelName;
use crate::repo_path::RepoPath;
use crate::wire::{ModelInfo, Sibling};

/// Where the Hub is unless someone says otherwise.
pub const OFFICIAL_ENDPOINT: &str = "https://huggingface.co";

/// A listing is refused beyond this; a thousand files take about 300 kB.
const MAX_LISTING_BYTES: u64 = 32 << 20;
const MAX_FILES: usize = 100_000;

/// The Hub, or a mirror that speaks its protocol.
pub struct Hub {
    pub(crate) client: Client,
    endpoint: String,
    is_offline: bool,
}

/// How to reach the Hub.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Address of the Hub or of a mirror, as `HF_ENDPOINT` gives it.
    pub endpoint: String,
    /// Who we are; goes to the endpoint's own origin only.
    pub token: Option<Token>,
    /// Refuse everything that needs the network.
    pub offline: bool,
    /// A proxy for all requests.
    pub proxy: Option<Proxy>,
    /// Certificates to trust instead of the built-in ones: the content of a PEM file.
    pub ca_bundle: Option<Vec<u8>>,
    /// Longest silence of a connection.
    pub timeout: Duration,
    /// Wait before the second attempt; doubles from there.
    pub first_backoff: Duration,
}

/// A secret. It is never printed.
#[derive(Clone)]
pub struct Token(String);

/// A proxy and the hosts that are reached without it.
#[derive(Clone)]
pub struct Proxy {
    /// `http://[user:password@]host:port`.
    pub url: String,
    /// Hosts as `NO_PROXY` lists them, with commas between.
    pub no_proxy: String,
}

/// What a repository holds at one commit.
#[derive(Clone, Debug)]
pub struct RepoListing {
    /// `org/name`.
    pub repo: String,
    /// The commit that the revision led to; files are fetched from it, so that they belong together.
    pub commit: String,
    /// All files, in the server's order.
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Its name.
    pub path: RepoPath,
    /// Its size, where the server lists it.
    pub size_bytes: Option<u64>,
    /// What its content is, where the server lists it.
    pub digest: Option<Digest>,
}

impl Hub {
    /// Checks the options. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Option`] for an endpoint, token, proxy or certificate that cannot be used, and for a token that would
    /// travel unencrypted to another machine.
    pub fn new(options: HubOptions) -> Result<Self> {
        let refuse = |what, why: &str| Error::Option { what, why: why.into() };
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let home: Uri = endpoint.parse().map_err(|_| refuse("endpoint", "not an address"))?;
        let is_plain = match home.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(refuse("endpoint", "expected an address that starts with https:// or http://")),
        };
        let host = home.host().ok_or_else(|| refuse("endpoint", "expected a host"))?;
        if home.query().is_some() || home.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(refuse("endpoint", "expected no query and no user name"));
        }
        let is_this_machine = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        if options.token.is_some() && is_plain && !is_this_machine {
            return Err(refuse(
                "token",
                "it would be sent unencrypted; use an https endpoint or unset HF_TOKEN",
            ));
        }
        let client = Client {
            agent: agent(&options)?,
            home,
            authorization: options.token.map(|token| format!("Bearer {}", token.0)),
            cancelled: AtomicBool::new(false),
            first_backoff: options.first_backoff,
        };
        Ok(Self { client, endpoint, is_offline: options.offline })
    }

    /// Interrupts everything that runs through this value, from any thread. It stays cancelled.
    pub fn cancel(&self) {
        self.client.cancelled.store(true, Ordering::Relaxed);
        self.client.agent.clone().shutdown();
    }

    /// Lists a repository's files at the name's revision.
    ///
    /// # Errors
    /// What the server refuses, and [`Error::HostileName`] when one of its file names could leave a folder.
    pub fn listing(&self, name: &ModelName) -> Result<RepoListing> {
        self.check_online(&format!("listing the files of `{}`", name.repo()))?;
        let revision = escape(name.revision(), false);
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, name.repo());
        let info: ModelInfo = self.client.retrying(|| {
            let mut response = self.client.get(&url, None)?;
            let bytes = self.client.read_all(&mut response, MAX_LISTING_BYTES)?;
            let parsed = serde_json::from_slice(&bytes);
            parsed.map_err(|e| {
                crate::http::Failure::lasting(wire(&url, &format!("expected a list of files: {e}")))
            })
        })?;
        let commit = info.sha.unwrap_or_else(|| name.revision().to_owned());
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if commit.is_empty() || commit.len() > 200 || !commit.chars().all(is_name) || commit.contains("..") {
            return Err(wire(
                &url,
                &format!("expected a commit's name in `sha`, got {:?}", printable(&commit)),
            ));
        }
        if info.siblings.len() > MAX_FILES {
            return Err(wire(
                &url,
                &format!("expected at most {MAX_FILES} files, got {}", info.siblings.len()),
            ));
        }
        let files = info.siblings.into_iter().map(|sibling| remote_file(name.repo(), sibling));
        Ok(RepoListing { repo: name.repo().into(), commit, files: files.collect::<Result<_>>()? })
    }

    /// Where the bytes of a file are asked for.
    pub fn resolve_url(&self, repo: &str, commit: &str, path: &RepoPath) -> String {
        format!("{}/{repo}/resolve/{}/{}", self.endpoint, escape(commit, false), escape(path.as_str(), true))
    }

    pub(crate) fn check_online(&self, what: &str) -> Result<()> {
        if self.is_offline {
            return Err(Error::Offline { what: what.into() });
        }
        self.client.check_cancelled()
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: OFFICIAL_ENDPOINT.into(),
            token: None,
            offline: false,
            proxy: None,
            ca_bundle: None,
            timeout: Duration::from_secs(30),
            first_backoff: Duration::from_millis(500),
        }
    }
}

impl Token {
    /// Takes a secret as `HF_TOKEN` or the token file gives it.
    ///
    /// # Errors
    /// [`Error::Option`] when it cannot stand in a header.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let is_visible = !text.is_empty() && text.len() <= 4096 && text.bytes().all(|b| b.is_ascii_graphic());
        match is_visible {
            true => Ok(Self(text.into())),
            false => Err(Error::Option { what: "token", why: "expected visible ASCII characters".into() }),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for Proxy {
    /// The address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(…)")
    }
}

fn agent(options: &HubOptions) -> Result<Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = &options.ca_bundle {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            let item = item.map_err(|e| Error::Option { what: "certificates", why: e.to_string() })?;
            if let PemItem::Certificate(certificate) = item {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(Error::Option {
                what: "certificates",
                why: "expected PEM, found no certificate".into(),
            });
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(options.proxy.as_ref().map(proxy).transpose()?)
        .user_agent(concat!("wootz/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(options.timeout))
        .timeout_connect(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout))
        .timeout_per_write(Some(options.timeout));
    Ok(config.build().new_agent())
}

fn proxy(proxy: &Proxy) -> Result<ureq::Proxy> {
    let refuse = |_| Error::Option { what: "proxy", why: "expected http://[user:password@]host:port".into() };
    let parsed = ureq::Proxy::new(&proxy.url).map_err(refuse)?;
    let mut builder = ureq::Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(username) = parsed.username() {
        builder = builder.username(username);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for host in proxy.no_proxy.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build().map_err(refuse)
}

fn remote_file(repo: &str, sibling: Sibling) -> Result<RemoteFile> {
    let path = RepoPath::parse(&sibling.rfilename).map_err(|why| {
        let name = sibling.rfilename.chars().take(200).collect();
        Error::HostileName { repo: repo.into(), name, why }
    })?;
    let (size_bytes, digest) = match &sibling.lfs {
        Some(lfs) => (lfs.size.or(sibling.size), lfs.sha256.as_deref()),
        None => (sibling.size, sibling.blob_id.as_deref()),
    };
    Ok(RemoteFile { path, size_bytes, digest: digest.and_then(Digest::parse) })
}

/// Percent-escapes everything that is not plain, and `/` unless `keep_slashes`.
fn escape(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain =
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slashes && byte == b'/');
        if is_plain { out.push(byte.into()) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_refused_before_anything_is_sent() {
        let check = |endpoint: &str, token: Option<&str>, is_fine: bool| {
            let token = token.map(|t| Token::parse(t).unwrap());
            let options = HubOptions { endpoint: endpoint.into(), token, ..HubOptions::default() };
            assert_eq!(Hub::new(options).is_ok(), is_fine, "{endpoint}");
        };
        check(OFFICIAL_ENDPOINT, Some("hf_x"), true);
        check("https://mirror.example/hub/", Some("hf_x"), true);
        check("http://mirror.example", None, true);
        check("http://mirror.example", Some("hf_x"), false);
        check("http://127.0.0.1:8000", Some("hf_x"), true);
        check("http://127.0.0.1.example", Some("hf_x"), false);
        check("ftp://mirror.example", None, false);
        check("https://user@mirror.example", None, false);
        check("mirror.example", None, false);
        check("", None, false);
        assert!(Token::parse("hf\nx").is_err());
        assert!(Token::parse("").is_err());
        assert!(!format!("{:?}", Token::parse("hf_secret").unwrap()).contains("secret"));
        let no_certificate = HubOptions { ca_bundle: Some(b"hello".to_vec()), ..HubOptions::default() };
        assert!(Hub::new(no_certificate).is_err());
    }

    #[test]
    fn names_are_escaped_in_addresses() {
        let hub = Hub::new(HubOptions::default()).unwrap();
        let path = RepoPath::parse("a b/ü#?%.txt").unwrap();
        let url = hub.resolve_url("o/n", "refs/pr/1", &path);
        assert_eq!(url, "https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/a%20b/%C3%BC%23%3F%25.txt");
    }
}
