//! Fuzzing chat templates: reading and rendering end soon, within the budget.
#![no_main]

mod memory;

use wootz_text::{ChatInput, ChatTemplate, Message};

libfuzzer_sys::fuzz_target!(|source: &str| {
    let messages = [Message::system("s"), Message::user("hello"), Message::assistant("x ".repeat(20))];
    let input = ChatInput { messages: &messages, add_generation_prompt: true, ..ChatInput::default() };
    memory::bounded(source.len(), || {
        if let Ok(template) = ChatTemplate::new(source) {
            let _ = template.render(&input);
        }
    });
});
