//! Embeddings, models, health.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::rig::Rig;

fn embed(rig: &Rig, extra: Value) -> crate::client::Answer {
    let mut request = json!({"model": "vectors", "input": "red fox"});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    rig.post("/v1/embeddings", &request)
}

#[test]
fn texts_become_vectors() {
    let rig = Rig::start(ScriptedModel::default());
    let json = embed(&rig, json!({"input": ["red fox", "blue"], "user": "me"})).json();
    let numbers: Vec<f32> = serde_json::from_value(json["data"][0]["embedding"].clone()).unwrap();
    assert_eq!((numbers.len(), &json["data"][1]["index"]), (8, &json!(1)));

    let base64 = embed(&rig, json!({"encoding_format": "base64"})).json();
    use base64::Engine;
    let text = base64["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let decoded: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(decoded, numbers);

    let short = embed(&rig, json!({"dimensions": 3})).json();
    let short: Vec<f32> = serde_json::from_value(short["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(short.len(), 3);
    for (extra, param) in [
        (json!({"dimensions": 9}), "dimensions"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"dimensions": -1}), "dimensions"),
        (json!({"input": []}), "input"),
        (json!({"input": [[1, 2]]}), "input"),
        (json!({"encoding_format": "hex"}), "encoding_format"),
    ] {
        let answer = embed(&rig, extra.clone());
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{extra}");
    }
}

#[test]
fn models_are_listed() {
    let rig = Rig::start(ScriptedModel::default());
    let list = rig.get("/v1/models").json();
    assert_eq!(list["data"][0]["id"], "scripted");
    assert_eq!(rig.get("/v1/models/vectors").json()["object"], "model");
    assert_eq!(rig.get("/v1/models/none").status, 404);
    assert_eq!(rig.get("/health").json()["status"], "ok");
    assert_eq!(rig.get("/ready").status, 200);
    assert_eq!(rig.get("/nowhere").json()["error"]["message"], "no such address: /nowhere");
    assert_eq!(rig.get("/v1/embeddings").status, 405);
}
