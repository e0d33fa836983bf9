#pragma once
#include <cstddef>
#include <cstdint>

namespace quetzal {

/// CRC-32C (Castagnoli, reflected, as in RFC 3720) of the bytes.
uint32_t crc32c(const uint8_t* bytes, size_t count);

/// The table-driven twin, for machines without SSE 4.2 and for tests.
uint32_t crc32cPlain(const uint8_t* bytes, size_t count);

}  // namespace quetzal
