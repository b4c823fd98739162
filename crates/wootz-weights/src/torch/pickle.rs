//! A pickle machine that can only describe tensors.
//!
//! Where:  under [`Archive`](super::Archive), on the archive's `data.pkl`.
//! Idea:   values live in one arena and are named by their index, so sharing costs nothing and nothing recurses. A global
//!         is a name; calling one is a match over the few that build tensors. Work is bounded by the opcodes, whose
//!         number is bounded first.
//! Source: PEP 307 (protocol 2), PEP 3154 (protocol 4), CPython's `pickletools.py`; torch/_utils.py for the calls.
//!
//! # Invariants
//! - No name that a pickle gives is looked up, imported or run: an unlisted global is an error that names it.

use std::collections::HashMap;
use std::path::Path;

use super::{Dtype, StorageLen, View};
use crate::MAX_TENSORS;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Dimensions of a tensor that are read at most.
const MAX_DIMS: usize = 8;
/// Opcodes that are run in any case; longer files have some more. An opcode costs at most about 100 bytes.
const MIN_STEPS: usize = 300_000;
/// Keys under which checkpoints keep the state dict.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// The tensors that the pickle's dict names, in its order, each made from its view by `tensor`.
pub(super) fn tensors(
    path: &Path,
    pickle: &[u8],
    file_len: usize,
    tensor: impl Fn(View) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut machine = Machine::new(path, pickle, MIN_STEPS + file_len / 32);
    let root = machine.run()?;
    let dict = machine.state_dict(root)?;
    machine.views(dict, tensor)
}

/// An index into the arena.
type Id = u32;

#[derive(Clone, Copy, Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Bytes,
    /// A tuple, list or dict (keys and values by turns): its place among the containers.
    Tuple(u32),
    List(u32),
    Dict(u32),
    Global(Global<'a>),
    Storage(u32),
    Tensor(u32),
}

/// The globals that may be named.
#[derive(Clone, Copy, Debug)]
enum Global<'a> {
    OrderedDict,
    /// `_rebuild_tensor_v2`, and `_rebuild_tensor` of old.
    RebuildTensor,
    /// `_rebuild_tensor_v3`, with a dtype of its own and an untyped storage.
    RebuildTensorV3,
    RebuildParameter,
    Size,
    Storage(Dtype),
    UntypedStorage,
    /// A `torch.dtype` that is read.
    Dtype(Dtype),
    /// A harmless name, such as a `torch.dtype` that is not read.
    Other(&'a str),
}

#[derive(Clone, Debug)]
struct Storage<'a> {
    key: &'a str,
    /// `None` for an untyped one.
    dtype: Option<Dtype>,
    len: usize,
}

#[derive(Clone, Debug)]
struct TensorNode {
    storage: u32,
    dtype: Dtype,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    steps_left: usize,
    nodes: Vec<Node<'a>>,
    containers: Vec<Vec<Id>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<TensorNode>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn new(path: &'a Path, pickle: &'a [u8], max_steps: usize) -> Self {
        Self {
            cursor: Cursor::new(path, pickle, 0),
            steps_left: max_steps,
            nodes: Vec::new(),
            containers: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs to `STOP` and gives the value left.
    fn run(&mut self) -> Result<Id> {
        loop {
            let Some(steps_left) = self.steps_left.checked_sub(1) else {
                return Err(self.malformed("a pickle in proportion to its file", "too many opcodes"));
            };
            self.steps_left = steps_left;
            match self.cursor.u8("pickle")? {
                op::STOP => return self.pop(),
                code => self.step(code)?,
            }
        }
    }

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            op::PROTO => self.protocol(),
            op::FRAME => self.cursor.u64("pickle frame").map(drop),
            op::NONE => self.push(Node::None),
            op::NEWTRUE => self.push(Node::Bool(true)),
            op::NEWFALSE => self.push(Node::Bool(false)),
            op::BININT => self.int(4),
            op::BININT1 => self.int(1),
            op::BININT2 => self.int(2),
            op::LONG1 => self.long(),
            op::BINFLOAT => self.cursor.take(8, "pickle float").and_then(|_| self.push(Node::Float)),
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => self.text(1),
            op::BINUNICODE | op::BINSTRING => self.text(4),
            op::BINUNICODE8 => self.text(8),
            op::SHORT_BINBYTES => self.bytes(1),
            op::BINBYTES => self.bytes(4),
            op::BINBYTES8 => self.bytes(8),
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => self.pop().map(drop),
            op::POP_MARK => self.pop_to_mark().map(drop),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            op::EMPTY_TUPLE => self.container(Vec::new(), Node::Tuple),
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::TUPLE => self.pop_to_mark().and_then(|items| self.container(items, Node::Tuple)),
            op::EMPTY_LIST => self.container(Vec::new(), Node::List),
            op::LIST => self.pop_to_mark().and_then(|items| self.container(items, Node::List)),
            op::EMPTY_DICT => self.container(Vec::new(), Node::Dict),
            op::DICT => self.pop_to_mark().and_then(|items| self.new_dict(items)),
            op::APPEND => self.pop().and_then(|item| self.append(&[item])),
            op::APPENDS => self.pop_to_mark().and_then(|items| self.append(&items)),
            op::SETITEM => self.pop_n(2).and_then(|items| self.set_items(&items)),
            op::SETITEMS => self.pop_to_mark().and_then(|items| self.set_items(&items)),
            op::GLOBAL => self.global_lines(),
            op::STACK_GLOBAL => self.global_stack(),
            op::REDUCE => self.reduce(),
            op::BUILD => self.build(),
            op::BINPERSID => self.storage(),
            op::BINPUT => self.cursor.u8("pickle memo").and_then(|key| self.put(key.into())),
            op::LONG_BINPUT => self.cursor.u32("pickle memo").and_then(|key| self.put(key)),
            op::MEMOIZE => self.put(self.memo.len() as u32),
            op::BINGET => self.cursor.u8("pickle memo").and_then(|key| self.get(key.into())),
            op::LONG_BINGET => self.cursor.u32("pickle memo").and_then(|key| self.get(key)),
            code => {
                let got = format!("opcode {code:#04x} at byte {}", self.cursor.position() - 1);
                Err(self.malformed("an opcode that state dicts use", got))
            }
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.cursor.u8("pickle protocol")? {
            2..=5 => Ok(()),
            version => Err(self.malformed("protocol 2 to 5", version)),
        }
    }

    // Values.

    fn push(&mut self, node: Node<'a>) -> Result<()> {
        self.stack.push(self.nodes.len() as Id); // fits: there are fewer nodes than steps
        self.nodes.push(node);
        Ok(())
    }

    /// A little-endian integer; four bytes have a sign.
    fn int(&mut self, n_bytes: u64) -> Result<()> {
        let bytes = self.cursor.take(n_bytes, "pickle integer")?;
        let value = match *bytes {
            [a] => i64::from(a),
            [a, b] => i64::from(u16::from_le_bytes([a, b])),
            _ => i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes were taken"))),
        };
        self.push(Node::Int(value))
    }

    /// An integer of its own length, which must fit 64 bits.
    fn long(&mut self) -> Result<()> {
        let len = self.cursor.u8("pickle integer")?;
        let bytes = self.cursor.take(len.into(), "pickle integer")?;
        if bytes.len() > 8 {
            return Err(self.malformed("an integer of 64 bits", format_args!("one of {len} bytes")));
        }
        let negative = bytes.last().is_some_and(|last| last >> 7 != 0);
        let mut full = [if negative { 0xff } else { 0 }; 8];
        full[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(full)))
    }

    fn length(&mut self, n_bytes: u64) -> Result<u64> {
        let bytes = self.cursor.take(n_bytes, "pickle length")?;
        Ok(bytes.iter().rev().fold(0, |len, &byte| len << 8 | u64::from(byte)))
    }

    fn text(&mut self, length_bytes: u64) -> Result<()> {
        let len = self.length(length_bytes)?;
        let text = self.cursor.text(len, "pickle text")?;
        self.push(Node::Text(text))
    }

    fn bytes(&mut self, length_bytes: u64) -> Result<()> {
        let len = self.length(length_bytes)?;
        self.cursor.take(len, "pickle bytes")?;
        self.push(Node::Bytes)
    }

    fn container(&mut self, items: Vec<Id>, node: fn(u32) -> Node<'a>) -> Result<()> {
        let at = self.containers.len() as u32;
        self.containers.push(items);
        self.push(node(at))
    }

    fn tuple(&mut self, n: usize) -> Result<()> {
        let items = self.pop_n(n)?;
        self.container(items, Node::Tuple)
    }

    fn new_dict(&mut self, items: Vec<Id>) -> Result<()> {
        self.container(Vec::new(), Node::Dict)?;
        self.set_items(&items)
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        let Node::List(at) = self.node(top) else {
            return Err(self.wrong("a list to append to", top));
        };
        self.containers[at as usize].extend_from_slice(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        let Node::Dict(at) = self.node(top) else {
            return Err(self.wrong("a dict to set items of", top));
        };
        if !items.len().is_multiple_of(2) {
            return Err(self.malformed("a value for each key", "a key alone"));
        }
        self.containers[at as usize].extend_from_slice(items);
        Ok(())
    }

    // The stack and the memo.

    fn node(&self, id: Id) -> Node<'a> {
        self.nodes[id as usize]
    }

    fn items(&self, container: u32) -> &[Id] {
        &self.containers[container as usize]
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack[floor..].last() {
            Some(&id) => Ok(id),
            None => Err(self.malformed("a value on the stack", "none")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n).filter(|&at| at >= floor) {
            Some(at) => Ok(self.stack.split_off(at)),
            None => Err(self.malformed(format_args!("{n} values on the stack"), "fewer")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.malformed("a mark on the stack", "none")),
        }
    }

    fn put(&mut self, key: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => Err(self.malformed(format_args!("a value remembered as {key}"), "none")),
        }
    }

    // Globals and calls.

    /// `GLOBAL`: module and name, each ended by a newline.
    fn global_lines(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        let global = self.global(module, name)?;
        self.push(Node::Global(global))
    }

    fn global_stack(&mut self) -> Result<()> {
        let [name, module] = [self.pop()?, self.pop()?];
        let (Node::Text(module), Node::Text(name)) = (self.node(module), self.node(name)) else {
            return Err(self.wrong("a global's module and name", name));
        };
        let global = self.global(module, name)?;
        self.push(Node::Global(global))
    }

    fn line(&mut self) -> Result<&'a str> {
        const MAX_LINE: usize = 256;
        let mut probe = self.cursor.clone();
        for len in 0..MAX_LINE {
            if probe.u8("pickle global")? == b'\n' {
                let line = self.cursor.text(len as u64, "pickle global")?;
                self.cursor.u8("pickle global")?;
                return Ok(line);
            }
        }
        Err(self.malformed(format_args!("a global's name of at most {MAX_LINE} bytes"), "a longer one"))
    }

    fn global(&self, module: &str, name: &'a str) -> Result<Global<'a>> {
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Global::RebuildParameter)
            }
            ("torch", "Size") => Some(Global::Size),
            ("torch.storage" | "torch", "UntypedStorage") => Some(Global::UntypedStorage),
            ("torch" | "torch.cuda", class) if class.ends_with("Storage") => {
                Dtype::from_storage(class).map(Global::Storage)
            }
            ("torch", dtype) => match Dtype::from_torch(dtype) {
                Some(dtype) => Some(Global::Dtype(dtype)),
                None => OTHER_DTYPES.contains(&dtype).then_some(Global::Other(dtype)),
            },
            _ => None,
        };
        known.ok_or_else(|| {
            let what = format!("`{module}.{name}` in a pickle");
            let expected = "a plain dict of tensors in types that are read (nothing in the file is executed)";
            Error::unsupported(self.cursor.path, what, expected)
        })
    }

    /// Calls the function below the arguments.
    fn reduce(&mut self) -> Result<()> {
        let [arguments, function] = [self.pop()?, self.pop()?];
        let (Node::Global(global), Node::Tuple(arguments)) = (self.node(function), self.node(arguments))
        else {
            return Err(self.wrong("a function and a tuple to call it with", function));
        };
        let arguments = self.items(arguments).to_vec();
        match global {
            Global::OrderedDict => self.ordered_dict(&arguments),
            Global::Size => match *arguments {
                [items] => {
                    self.stack.push(items);
                    Ok(())
                }
                _ => Err(self.malformed("one argument of `torch.Size`", arguments.len())),
            },
            Global::RebuildTensor | Global::RebuildTensorV3 => self.rebuild(global, &arguments),
            Global::RebuildParameter => match arguments.first() {
                Some(&tensor) if matches!(self.node(tensor), Node::Tensor(_)) => {
                    self.stack.push(tensor);
                    Ok(())
                }
                _ => Err(self.wrong("a tensor to make a parameter of", function)),
            },
            _ => Err(self.wrong("a function", function)),
        }
    }

    /// `OrderedDict()`, or of a list of pairs.
    fn ordered_dict(&mut self, arguments: &[Id]) -> Result<()> {
        let mut items = Vec::new();
        if let [pairs] = *arguments {
            let Node::List(pairs) = self.node(pairs) else {
                return Err(self.wrong("a list of pairs", pairs));
            };
            for &pair in self.items(pairs) {
                let (Node::List(at) | Node::Tuple(at)) = self.node(pair) else {
                    return Err(self.wrong("a pair", pair));
                };
                let &[key, value] = self.items(at) else { return Err(self.wrong("a pair", pair)) };
                items.extend([key, value]);
            }
            // A list may be named many times, so its pairs count as steps.
            self.steps_left = self.steps_left.saturating_sub(items.len());
        }
        self.new_dict(items)
    }

    /// `_rebuild_tensor_v2(storage, offset, size, strides, …)`.
    fn rebuild(&mut self, function: Global<'a>, arguments: &[Id]) -> Result<()> {
        let &[storage, offset, shape, strides, ref rest @ ..] = arguments else {
            return Err(self.malformed("four arguments to rebuild a tensor", arguments.len()));
        };
        let Node::Storage(storage) = self.node(storage) else {
            return Err(self.wrong("a storage to rebuild a tensor from", storage));
        };
        let dtype = match (function, self.storages[storage as usize].dtype, rest) {
            (Global::RebuildTensor, Some(dtype), _) => dtype,
            (Global::RebuildTensorV3, None, &[_, _, dtype, ..]) => match self.node(dtype) {
                Node::Global(Global::Dtype(dtype)) => dtype,
                Node::Global(Global::Other(name)) => {
                    let expected = "float, integer and bool types that are read";
                    return Err(Error::unsupported(
                        self.cursor.path,
                        format_args!("`torch.{name}`"),
                        expected,
                    ));
                }
                _ => return Err(self.wrong("a dtype", dtype)),
            },
            _ => return Err(self.malformed("a storage that fits its rebuilding function", "another")),
        };
        let offset = self.count(offset)?;
        let (shape, strides) = (self.counts(shape)?, self.counts(strides)?);
        if shape.len() != strides.len() {
            return Err(self.malformed(format_args!("{} strides", shape.len()), strides.len()));
        }
        let at = self.tensors.len() as u32;
        self.tensors.push(TensorNode { storage, dtype, offset, shape, strides });
        self.push(Node::Tensor(at))
    }

    /// `BUILD`: sets attributes. Those of an ordered dict (`_metadata`) say nothing about tensors.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let top = self.top()?;
        match self.node(top) {
            Node::Dict(_) => Ok(()),
            _ => Err(self.wrong("a dict to set attributes of", top)),
        }
    }

    /// A persistent id: `("storage", class, key, location, length)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Node::Tuple(at) = self.node(id) else { return Err(self.wrong("a storage's description", id)) };
        let &[kind, class, key, _location, len] = self.items(at) else {
            return Err(self.wrong("a storage's description in five parts", id));
        };
        let dtype = match (self.node(kind), self.node(class)) {
            (Node::Text("storage"), Node::Global(Global::Storage(dtype))) => Some(dtype),
            (Node::Text("storage"), Node::Global(Global::UntypedStorage)) => None,
            _ => return Err(self.wrong("a storage's class", class)),
        };
        let Node::Text(key) = self.node(key) else { return Err(self.wrong("a storage's key", key)) };
        let len = self.count(len)?;
        let at = self.storages.len() as u32;
        self.storages.push(Storage { key, dtype, len });
        self.push(Node::Storage(at))
    }

    fn count(&self, id: Id) -> Result<usize> {
        match self.node(id) {
            Node::Int(value) if value >= 0 => Ok(value as usize),
            _ => Err(self.wrong("a count", id)),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<usize>> {
        let (Node::Tuple(at) | Node::List(at)) = self.node(id) else {
            return Err(self.wrong("a tuple of counts", id));
        };
        let items = self.items(at);
        if items.len() > MAX_DIMS {
            return Err(self.malformed(format_args!("at most {MAX_DIMS} dimensions"), items.len()));
        }
        items.iter().map(|&id| self.count(id)).collect()
    }

    // The result.

    /// The dict `root`, or the state dict in it.
    fn state_dict(&self, root: Id) -> Result<u32> {
        let Node::Dict(mut dict) = self.node(root) else {
            return Err(self.wrong("a dict of tensors", root));
        };
        for _ in 0..2 {
            let has_tensors =
                self.entries(dict).any(|(_, value)| matches!(self.node(value), Node::Tensor(_)));
            if has_tensors {
                break;
            }
            match self.nested(dict) {
                Some(inner) => dict = inner,
                None => break,
            }
        }
        Ok(dict)
    }

    fn nested(&self, dict: u32) -> Option<u32> {
        NESTED.iter().find_map(|wanted| {
            self.entries(dict).find_map(|(key, value)| match (self.node(key), self.node(value)) {
                (Node::Text(key), Node::Dict(inner)) if key == *wanted => Some(inner),
                _ => None,
            })
        })
    }

    fn views(&self, dict: u32, make: impl Fn(View) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        for (key, value) in self.entries(dict) {
            let Node::Tensor(tensor) = self.node(value) else { continue };
            let Node::Text(name) = self.node(key) else { return Err(self.wrong("a tensor's name", key)) };
            if tensors.len() == MAX_TENSORS {
                return Err(self.malformed(format_args!("at most {MAX_TENSORS} tensors"), "more"));
            }
            let TensorNode { storage, dtype, offset, shape, strides } = self.tensors[tensor as usize].clone();
            let storage = &self.storages[storage as usize];
            let storage_len = match storage.dtype {
                Some(_) => StorageLen::Elements(storage.len),
                None => StorageLen::Bytes(storage.len),
            };
            let (name, storage) = (name.into(), storage.key.into());
            tensors.push(make(View { name, dtype, storage, storage_len, offset, shape, strides })?);
        }
        if tensors.is_empty() {
            return Err(self.malformed("a dict of tensors", "a dict without any"));
        }
        Ok(tensors)
    }

    fn entries(&self, dict: u32) -> impl Iterator<Item = (Id, Id)> {
        self.items(dict).as_chunks::<2>().0.iter().map(|&[key, value]| (key, value))
    }

    // Errors.

    fn malformed(&self, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
        let field = format_args!("pickle, byte {}", self.cursor.position());
        Error::malformed(self.cursor.path, field, expected, got)
    }

    fn wrong(&self, expected: &str, id: Id) -> Error {
        let got = match self.node(id) {
            Node::None => "none".into(),
            Node::Bool(value) => format!("the bool {value}"),
            Node::Int(value) => format!("the integer {value}"),
            Node::Float => "a float".into(),
            Node::Text(text) => format!("the text `{text}`"),
            Node::Bytes => "bytes".into(),
            Node::Tuple(at) => format!("a tuple of {}", self.items(at).len()),
            Node::List(at) => format!("a list of {}", self.items(at).len()),
            Node::Dict(at) => format!("a dict of {}", self.items(at).len() / 2),
            Node::Global(global) => format!("the global {global:?}"),
            Node::Storage(_) => "a storage".into(),
            Node::Tensor(_) => "a tensor".into(),
        };
        self.malformed(expected, got)
    }
}

/// Names of `torch` that tensors of unread types are saved with. They are refused only where a tensor needs them.
const OTHER_DTYPES: [&str; 8] = [
    "complex64",
    "complex128",
    "uint64",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "quint8",
];

/// Opcodes, named as in `pickletools`.
mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const POP: u8 = b'0';
    pub(super) const POP_MARK: u8 = b'1';
    pub(super) const DUP: u8 = b'2';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const DICT: u8 = b'd';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const LIST: u8 = b'l';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
}
