//! Events to the topic: key, headers, delivery, back-pressure.
