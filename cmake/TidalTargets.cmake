# tidal_library(NAME [DEPS target...] [SOURCES_EXCLUDE regex]): the library tidal_NAME from every *.cc of the current
# folder, and, where tests are built, tidal_NAME_test from every *_test.cc. Files are found by glob so that no test can
# be left out of a hand-kept list.
include(GoogleTest OPTIONAL)

add_library(tidal_flags INTERFACE)
target_include_directories(tidal_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
# Host code only: nvcc passes pedantic warnings about the code that it generates.
target_compile_options(
  tidal_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wno-unused-parameter;-Wno-missing-field-initializers;-fno-math-errno>")
# GCC 12 warns of overlapping copies inside std::string's own operator+ (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(tidal_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(TIDAL_WERROR)
  target_compile_options(tidal_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(TIDAL_SANITIZE)
  target_compile_options(tidal_flags INTERFACE -fsanitize=${TIDAL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(tidal_flags INTERFACE -fsanitize=${TIDAL_SANITIZE})
endif()

function(tidal_test NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE tidal_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${NAME} PRIVATE TIDAL_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${NAME} COMMAND ${NAME})
  set(seconds 600)
  if(CMAKE_CROSSCOMPILING OR TIDAL_SANITIZE)  # under an emulator, or several times as slow
    set(seconds 1800)
  endif()
  set_tests_properties(${NAME} PROPERTIES TIMEOUT ${seconds})
endfunction()

function(tidal_library NAME)
  cmake_parse_arguments(ARG "" "" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(sources)
    add_library(tidal_${NAME} STATIC ${sources})
    target_link_libraries(tidal_${NAME} PUBLIC tidal_flags ${ARG_DEPS})
  else()
    add_library(tidal_${NAME} INTERFACE)
    target_link_libraries(tidal_${NAME} INTERFACE tidal_flags ${ARG_DEPS})
  endif()
  if(TIDAL_BUILD_TESTS AND tests)
    tidal_test(tidal_${NAME}_test SOURCES ${tests} DEPS tidal_${NAME} ${ARG_TEST_DEPS})
  endif()
endfunction()
