//! Prints the tables of request fields as `docs/http-fields.md` keeps them.

fn main() {
    std::io::Write::write_all(&mut std::io::stdout(), wootz_serve::field_tables().as_bytes())
        .expect("stdout can be written");
}
