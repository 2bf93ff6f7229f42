"""Training on EC2: launch, user data, watch, end.

`training` is the way through: `bundle` and `store` bring code and rows to S3, `images`, `prices`, `budget` and `launch`
find a machine and the moment at which it must end, `user_data.sh.j2` is what it does, `watch` follows it, `ending` ends it.
"""
