#[taskiq_flow::task]
async fn count() -> u32 {
    let count = std::rc::Rc::new(1);
    std::future::ready(()).await;
    *count
}

fn main() {}
