#[taskiq_flow::task(retrys = 3)]
async fn unknown() {}

#[taskiq_flow::task(timeout = "30 seconds")]
async fn no_duration() {}

#[taskiq_flow::task(output = "a", outputs = ["a", "b"])]
async fn both() {}

fn main() {}
