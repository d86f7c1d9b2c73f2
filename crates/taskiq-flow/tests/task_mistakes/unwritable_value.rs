struct Parcel;

#[taskiq_flow::task]
async fn ship() -> Parcel {
    Parcel
}

fn main() {}
