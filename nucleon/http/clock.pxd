cpdef double now() noexcept
cpdef long long second() noexcept
