"""The classical baseline: utterance statistics and support vector machines."""
