struct Order;

#[taskiq_flow::task]
async fn ship(_order: Order, _count: u32) {}

fn main() {}
