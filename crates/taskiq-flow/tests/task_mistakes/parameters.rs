struct Counter;

impl Counter {
    #[taskiq_flow::task]
    async fn method(&self) {}
}

#[taskiq_flow::task]
async fn generic<T>(item: T) {}

#[taskiq_flow::task]
async fn borrowed(text: &str) {}

#[taskiq_flow::task]
async fn taken_apart((a, b): (i64, i64)) {}

fn main() {}
