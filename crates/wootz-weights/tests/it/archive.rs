//! Zip files and pickles, sound or not, for the tests of PyTorch archives.

/// A zip of stored entries.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    build(entries, false)
}

/// The same with every size and offset in zip64 fields.
pub fn zip64(entries: &[(&str, &[u8])]) -> Vec<u8> {
    build(entries, true)
}

fn build(entries: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = file.len();
        let name_len = (name.len() as u16).to_le_bytes();
        let size = if wide { [0xff; 4] } else { (data.len() as u32).to_le_bytes() };
        let place = if wide { [0xff; 4] } else { (offset as u32).to_le_bytes() };
        let mut extra = Vec::new();
        if wide {
            extra.extend([9, 0, 2, 0, 7, 7]); // a field of another kind
            extra.extend([1, 0, 24, 0]);
            [data.len(), data.len(), offset].iter().for_each(|x| extra.extend((*x as u64).to_le_bytes()));
        }
        let extra_len = (extra.len() as u16).to_le_bytes();
        file.extend(
            [b"PK\x03\x04", &[0; 14][..], &size, &size, &name_len, &[0, 0], name.as_bytes(), data].concat(),
        );
        let lengths = [&name_len[..], &extra_len, &[0; 2]].concat();
        directory.extend(
            [b"PK\x01\x02", &[0; 16][..], &size, &size, &lengths, &[0; 8], &place, name.as_bytes(), &extra]
                .concat(),
        );
    }
    let (start, n_entries) = (file.len(), entries.len());
    let n_bytes = directory.len();
    file.extend(directory);
    if wide {
        let end = file.len() as u64;
        file.extend([b"PK\x06\x06", &[0; 20][..]].concat());
        [n_entries, n_entries, n_bytes, start].iter().for_each(|x| file.extend((*x as u64).to_le_bytes()));
        file.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &[1, 0, 0, 0]].concat());
    }
    let start = if wide { [0xff; 4] } else { (start as u32).to_le_bytes() };
    let n_entries = (n_entries as u16).to_le_bytes();
    let n_bytes = (n_bytes as u32).to_le_bytes();
    file.extend([b"PK\x05\x06", &[0; 4][..], &n_entries, &n_entries, &n_bytes, &start, &[0; 2]].concat());
    file
}

/// A pickle of protocol 2 that is being written.
pub struct Pickle(Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |pickle, value| pickle.int(*value)).raw(b"t")
    }

    /// A storage of `len` f32 named `0`.
    fn storage(self, len: u64) -> Self {
        let described = self.raw(b"(").text("storage").global("torch", "FloatStorage").text("0").text("cpu");
        described.int(len as i64).raw(b"tQ")
    }

    /// `{name: tensor}`.
    pub fn tensor_dict(self, name: &str, len: u64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        let call =
            self.raw(b"}").text(name).global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage(len);
        call.int(offset).ints(shape).ints(strides).raw(b"\x89NtRs")
    }

    /// A dict of `n` tensors that are made of one set of arguments.
    pub fn tensor_many_times(self, n: u32) -> Self {
        let function = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"q\x00(").storage(1);
        let arguments = function.int(0).ints(&[1; 8]).ints(&[1; 8]).raw(b"tq\x01}");
        let one = |pickle: Self, i: u32| pickle.text(&i.to_string()).raw(b"h\x00h\x01Rs");
        (0..n).fold(arguments, one)
    }

    pub fn done(self) -> Vec<u8> {
        self.raw(b".").0
    }
}
