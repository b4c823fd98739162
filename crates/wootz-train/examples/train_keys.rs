//! Prints the keys of recipes as `docs/train-keys.md` keeps them.
#![forbid(unsafe_code)]

fn main() {
    print!("{}", wootz_train::config::TrainConfig::keys_markdown());
}
