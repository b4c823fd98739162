//! A server with scripted models, started for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use wootz_serve::{FixedCatalog, Limits, ModelCard, ServedModel, Server, ServerOptions, Stopper};
use wootz_testkit::{ScriptedEmbedder, ScriptedModel, ScriptedReranker};
use wootz_text::ChatTemplate;

/// A template that shows tools and marks calls as Hermes does, and thoughts.
pub const TEMPLATE: &str = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{# <tool_call> <think> #}";

/// A running server.
pub struct Rig {
    pub address: SocketAddr,
    pub model: ScriptedModel,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// With `scripted`, called `scripted`, an embedder of 8 dimensions, called `vectors`, and a `ranker`.
    pub fn start(scripted: ScriptedModel) -> Self {
        Self::with(scripted, |_| {})
    }

    pub fn with(scripted: ScriptedModel, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let catalog = FixedCatalog::new([talker(&scripted), embedder(), ranker()]);
        Self::serving(scripted, catalog, change)
    }

    /// With models of the test's own.
    pub fn serving(
        scripted: ScriptedModel,
        catalog: FixedCatalog,
        change: impl FnOnce(&mut ServerOptions),
    ) -> Self {
        let mut options = ServerOptions::at("127.0.0.1:0".parse().expect("an address"));
        options.limits = Limits { drain_time: Duration::from_secs(5), ..Limits::default() };
        change(&mut options);
        let server = Server::bind(options, Arc::new(catalog)).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        let thread = Some(std::thread::spawn(move || server.run().unwrap()));
        Self { address, model: scripted, stopper, thread }
    }

    /// Begins to drain.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until the server is gone.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

fn talker(scripted: &ScriptedModel) -> ServedModel {
    ServedModel {
        card: ModelCard { name: "scripted".into(), max_seq_len: 4096, ..ModelCard::default() },
        generate: Some(Arc::new(scripted.clone())),
        score: Some(Arc::new(scripted.clone())),
        template: Some(Arc::new(ChatTemplate::new(TEMPLATE).unwrap())),
        ..ServedModel::default()
    }
}

fn embedder() -> ServedModel {
    ServedModel {
        card: ModelCard { name: "vectors".into(), ..ModelCard::default() },
        embed: Some(Arc::new(ScriptedEmbedder::new(8))),
        ..ServedModel::default()
    }
}

fn ranker() -> ServedModel {
    ServedModel {
        card: ModelCard { name: "ranker".into(), ..ModelCard::default() },
        rerank: Some(Arc::new(ScriptedReranker)),
        ..ServedModel::default()
    }
}
