#[derive(serde::Serialize)]
struct Lost;

type Shipped = Result<u32, Lost>;

#[taskiq_flow::task]
async fn ship() -> Shipped {
    Err(Lost)
}

fn main() {}
