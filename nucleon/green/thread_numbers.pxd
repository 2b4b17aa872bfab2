cpdef long long thread_number() noexcept
