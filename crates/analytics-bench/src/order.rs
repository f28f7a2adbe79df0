//! The event that all of them deliver: an order, with seven properties of
//! mixed types, of one of a thousand users, and a little context.

use std::net::{IpAddr, Ipv4Addr};

use analytics_spec::{Context, Input, Track};

/// What happened.
pub const EVENT: &str = "Order Completed";

/// What stands before an order's number in a body, whoever wrote it.
pub const MARKER: &[u8] = br#""order_id":"order-"#;

/// How many digits an order's number has.
pub const DIGITS: usize = 10;

const USERS: u64 = 1000;

/// What is known about one order, as a program that sells things has it.
/// Every subject builds its own event of it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who ordered.
    pub user_id: String,
    /// The order, which the sink knows it by.
    pub order_id: String,
    /// What it costs.
    pub revenue: f64,
    /// In which currency.
    pub currency: &'static str,
    /// How many pieces.
    pub quantity: u64,
    /// Whether the user has not ordered before.
    pub is_first: bool,
    /// What is ordered.
    pub skus: [&'static str; 2],
    /// What led to it.
    pub coupon: Option<&'static str>,
    /// From where.
    pub ip: IpAddr,
    /// In which language.
    pub locale: &'static str,
    /// With which browser.
    pub user_agent: &'static str,
}

impl Order {
    /// The order with a number, from 0.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let [.., third, fourth] = number.to_be_bytes();
        let cents = u32::from(third) * 256 + u32::from(fourth);
        Self {
            user_id: format!("user-{}", number % USERS),
            order_id: format!("order-{number:0DIGITS$}"),
            revenue: f64::from(cents) / 100.0,
            currency: "EUR",
            quantity: 1 + number % 7,
            is_first: number < USERS,
            skus: ["sku-1042", "sku-2718"],
            coupon: number.is_multiple_of(3).then_some("WELCOME10"),
            ip: IpAddr::V4(Ipv4Addr::new(203, 0, third, fourth)),
            locale: "en-GB",
            user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        }
    }

    /// The order as our event.
    #[must_use]
    pub fn into_input(self) -> Input<Track> {
        let track = Track::new(EVENT)
            .user_id(self.user_id)
            .property("order_id", self.order_id)
            .property("revenue", self.revenue)
            .property("currency", self.currency)
            .property("quantity", self.quantity)
            .property("is_first", self.is_first)
            .property("skus", self.skus.as_slice())
            .property("coupon", self.coupon);
        let context = Context::new()
            .ip(self.ip)
            .locale(self.locale)
            .user_agent(self.user_agent);
        Input::new(track).context(context)
    }
}
