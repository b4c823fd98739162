//! A server whose model says again what the user said last, for tests with other people's clients.
//!
//! Where:  started by `cargo xtask clients`, by the scripts in `tests/clients` and by `cargo xtask studio`; the first line
//!         printed is its address. An argument is how long it waits before every character, in milliseconds.
//! Idea:   a test asks for what it wants to hear: a tool call, thoughts, a JSON document.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use wootz_serve::{ApiKey, FixedCatalog, ModelCard, ServedModel, Server, ServerOptions};
use wootz_testkit::{ScriptedEmbedder, ScriptedModel, ScriptedReranker};
use wootz_text::{ChatTemplate, Prompt};

/// Shows tools; its remark names the marks by which calls and thoughts are found.
const TEMPLATE: &str = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{# <tool_call> <think> #}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = ServerOptions {
        keys: vec![ApiKey::new("test-key-1234")?],
        folder: Some(std::env::temp_dir().join(format!("wootz-scripted-server-{}", std::process::id()))),
        handle_signals: true,
        ..ServerOptions::at("127.0.0.1:0".parse()?)
    };
    let pause_ms = std::env::args().nth(1).map_or(Ok(0), |pause| pause.parse())?;
    let pause = Duration::from_millis(pause_ms);
    let server = Server::bind(options, Arc::new(FixedCatalog::new(models(pause)?)))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "http://{}", server.address())?;
    stdout.flush()?;
    Ok(server.run()?)
}

fn models(pause: Duration) -> Result<[ServedModel; 3], Box<dyn std::error::Error>> {
    let card = |name: &str| ModelCard { name: name.into(), max_seq_len: 4096, ..ModelCard::default() };
    let scripted = ScriptedModel::default().with_pause(pause);
    Ok([
        ServedModel {
            card: card("scripted"),
            generate: Some(Arc::new(scripted.clone())),
            score: Some(Arc::new(scripted)),
            template: Some(Arc::new(ChatTemplate::new(TEMPLATE)?)),
            tokenize: Some(Arc::new(|prompt| Ok(characters(&prompt)))),
            ..ServedModel::default()
        },
        ServedModel {
            card: card("vectors"),
            embed: Some(Arc::new(ScriptedEmbedder::new(8))),
            ..ServedModel::default()
        },
        ServedModel {
            card: card("ranker"),
            rerank: Some(Arc::new(ScriptedReranker)),
            ..ServedModel::default()
        },
    ])
}

/// A token is a character, as for the scripted model.
fn characters(prompt: &Prompt) -> Vec<u32> {
    match prompt {
        Prompt::Text(text) => text.chars().map(u32::from).collect(),
        Prompt::TokenIds(ids) => ids.clone(),
        Prompt::Chat { messages, .. } => messages
            .iter()
            .flat_map(|message| message.text().chars().map(u32::from).collect::<Vec<_>>())
            .collect(),
    }
}
