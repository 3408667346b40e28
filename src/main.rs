//! (to be written)
fn main() {
    if std::env::args().nth(1).as_deref() == Some("limits") {
        print!("{}", postern::limits::Table);
    }
}
