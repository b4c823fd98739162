//! `data show`: what of a row is learned.

use crate::{fail, succeed, wootz};

#[test]
fn a_row_is_shown_with_what_is_learned() {
    let home = tempfile::tempdir().unwrap();
    let rows = home.path().join("rows.jsonl");
    let row = r#"{"messages":[{"role":"user","content":"Say yes."},{"role":"assistant","content":"Yes."}]}"#;
    std::fs::write(&rows, format!("{row}\n{{\"messages\":[]}}\n")).unwrap();
    let show = |more: &[&str]| {
        let mut command = wootz(home.path());
        command.args(["data", "show"]).arg(&rows).args(more);
        command
    };
    let shown = succeed(&mut show(&["-n", "1"]));
    assert!(shown.contains("<|im_start|>assistant\n⟦Yes.<|im_end|>⟧\n"), "{shown}");
    assert!(shown.contains("line 1: messages, "), "{shown}");
    let said = fail(&mut show(&["--skip", "1"]), 1);
    assert!(said.contains("line 2 (messages): no token of it is supervised"), "{said}");
    assert!(said.contains("1 of the 1 rows shown cannot be learned from"), "{said}");
}
