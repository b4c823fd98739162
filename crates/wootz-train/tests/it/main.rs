//! Steps of optimizers, and whole runs, beside those that other programs took.
#![forbid(unsafe_code)]

mod golden;

use std::path::Path;

use serde_json::Value;
use wootz_train::{Adam, Lamb, Lion, RmsProp, Rule, ScheduleFree, Sgd, StateMut, Step};

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn golden() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/optimizers.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn check(name: &str, rule: &mut dyn Rule, weight_decay: f32) -> Vec<f32> {
    let golden = golden();
    let case = &golden["cases"][name];
    let mut weights = numbers(&golden["start"]);
    let grads = golden["grads"].as_array().unwrap().iter();
    let rates = numbers(&case["rates"]);
    for (i, (grad, expected)) in grads.zip(case["weights"].as_array().unwrap()).enumerate() {
        rule.step(&mut weights, &numbers(grad), &Step { lr: rates[i], step: i as u64 + 1, weight_decay });
        for (got, expected) in weights.iter().zip(numbers(expected)) {
            // Eight steps in f32, in another order of operations.
            assert!(
                (got - expected).abs() <= 2e-6 * expected.abs().max(1.0),
                "{name}, step {i}: {got} {expected}"
            );
        }
    }
    weights
}

#[test]
fn steps_are_those_of_other_programs() {
    let n = numbers(&golden()["start"]).len();
    check("sgd", &mut Sgd::new(n, 0.0, false), 0.1);
    check("momentum", &mut Sgd::new(n, 0.9, false), 0.1);
    check("nesterov", &mut Sgd::new(n, 0.9, true), 0.0);
    check("rms_prop", &mut RmsProp::new(n, 0.95, 1e-6), 0.1);
    check("adam", &mut Adam::plain(n, [0.9, 0.95], 1e-6), 0.1);
    check("adam_w", &mut Adam::adam_w(n, [0.9, 0.95], 1e-6), 0.1);
    check("lion", &mut Lion::new(n, [0.9, 0.99]), 0.1);
    check("lamb", &mut Lamb::new(n, [0.9, 0.95], 1e-6), 0.1);
    let mut free = ScheduleFree::new(n, [0.9, 0.95], 1e-6);
    let trained = check("schedule_free", &mut free, 0.1);
    let mut used = trained.clone();
    free.to_average(&mut used);
    for (got, expected) in used.iter().zip(numbers(&golden()["cases"]["schedule_free"]["average"])) {
        assert!((got - expected).abs() <= 4e-6 * expected.abs().max(1.0), "{got} {expected}");
    }
    free.to_training(&mut used);
    for (got, expected) in used.iter().zip(trained) {
        assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{got} {expected}");
    }
}

#[test]
fn a_saved_state_goes_on_as_if_nothing_had_happened() {
    let golden = golden();
    let grads: Vec<Vec<f32>> = golden["grads"].as_array().unwrap().iter().map(numbers).collect();
    let n = grads[0].len();
    let make: [fn(usize) -> Box<dyn Rule>; 7] = [
        |n| Box::new(Sgd::new(n, 0.9, true)),
        |n| Box::new(RmsProp::new(n, 0.95, 1e-6)),
        |n| Box::new(Adam::adam_w(n, [0.9, 0.95], 1e-6)),
        |n| Box::new(wootz_train::Adam8::new(n, [0.9, 0.95], 1e-6)),
        |n| Box::new(Lion::new(n, [0.9, 0.99])),
        |n| Box::new(Lamb::new(n, [0.9, 0.95], 1e-6)),
        |n| Box::new(ScheduleFree::new(n, [0.9, 0.95], 1e-6)),
    ];
    for make in make {
        let at = |step| Step { lr: 0.01, step, weight_decay: 0.1 };
        let (mut rule, mut weights) = (make(n), numbers(&golden["start"]));
        (1..=3).for_each(|step| rule.step(&mut weights, &grads[step as usize], &at(step)));
        let (mut other, mut again) = (make(n), weights.clone());
        for ((name, from), (same, to)) in rule.state().into_iter().zip(other.state()) {
            assert_eq!(name, same);
            match (from, to) {
                (StateMut::F32(from), StateMut::F32(to)) => to.copy_from_slice(from),
                (StateMut::U8(from), StateMut::U8(to)) => to.copy_from_slice(from),
                (from, to) => panic!("{name}: {from:?} and {to:?}"),
            }
        }
        for step in 4..=6 {
            rule.step(&mut weights, &grads[step as usize], &at(step));
            other.step(&mut again, &grads[step as usize], &at(step));
        }
        assert_eq!(weights, again);
    }
}
