//! Fuzzing the pickle of an archive whose zip is sound.
#![no_main]

mod open;

libfuzzer_sys::fuzz_target!(|pickle: &[u8]| open::open(&archive(pickle)));

/// A zip of stored entries: the pickle, and two storages.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let entries: [(&[u8], &[u8]); 3] =
        [(b"a/data.pkl", pickle), (b"a/data/0", &[1; 64]), (b"a/data/1", &[0; 60])];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = (file.len() as u32).to_le_bytes();
        let size = (data.len() as u32).to_le_bytes();
        let name_len = (name.len() as u16).to_le_bytes();
        file.extend([b"PK\x03\x04", &[0; 14][..], &size, &size, &name_len, &[0, 0], name, data].concat());
        let record = [b"PK\x01\x02", &[0; 16][..], &size, &size, &name_len, &[0; 12], &offset, name].concat();
        directory.extend(record);
    }
    let start = (file.len() as u32).to_le_bytes();
    let n_bytes = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([b"PK\x05\x06", &[0; 4][..], &[3, 0], &[3, 0], &n_bytes, &start, &[0; 2]].concat());
    file
}
