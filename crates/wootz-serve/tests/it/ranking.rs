//! Rankings and scores.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::rig::Rig;

#[test]
fn documents_are_ranked() {
    let rig = Rig::start(ScriptedModel::default());
    let documents = json!(["a blue whale", {"text": "the red fox"}, "red"]);
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let request = json!({"model": "ranker", "query": "red fox", "documents": documents, "top_n": 2, "return_documents": true});
        let json = rig.post(path, &request).json();
        assert_eq!(json["results"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&json["results"][0]["index"], &json["results"][0]["relevance_score"]),
            (&json!(1), &json!(1.0))
        );
        assert_eq!(json["results"][0]["document"]["text"], "the red fox");
    }
    let check = |extra: Value, param: &str| {
        let mut request = json!({"model": "ranker", "query": "x", "documents": ["a"]});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = rig.post("/v1/rerank", &request);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{extra}");
    };
    check(json!({"documents": []}), "documents");
    check(json!({"top_n": 0}), "top_n");
    check(json!({"top_n": -1}), "top_n");
    check(json!({"max_tokens_per_doc": 5}), "max_tokens_per_doc");
}

#[test]
fn pairs_are_scored_by_rankers_and_by_vectors() {
    let rig = Rig::start(ScriptedModel::default());
    let request = json!({"model": "ranker", "text_1": "red fox", "text_2": ["red", "red fox"]});
    assert_eq!(rig.post("/v1/score", &request).json()["data"][0]["score"], 0.5);
    let request = json!({"model": "vectors", "text_1": ["red", "a"], "text_2": ["red", "b"]});
    let json = rig.post("/score", &request).json();
    assert!(json["data"][0]["score"].as_f64() > Some(0.99) && json["data"][1]["score"].as_f64() < Some(0.5));
    let request = json!({"model": "ranker", "text_1": ["a", "b"], "text_2": ["c", "d", "e"]});
    assert_eq!(rig.post("/v1/score", &request).status, 400);
    assert_eq!(
        rig.post("/v1/score", &json!({"model": "scripted", "text_1": "a", "text_2": "b"})).status,
        400
    );
}
